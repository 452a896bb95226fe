#include "dispatcher/slow_log.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "base/text.h"
#include "sys/log.h"

namespace tqfpm::dispatcher {

namespace {

constexpr std::size_t kMostAsked = 8;  // more would keep the spawner from starting php-cgi
constexpr std::uint32_t kBudget = 100; // ms for one worker
constexpr Duration kPatience = seconds(3);
constexpr std::uint32_t kDefaultDepth = 20; // php-fpm takes 0 for not set

std::string safe(std::string_view text) {
  std::string result;
  append_safe(result, text);
  return result;
}

// The spawner's user is the scripts': only lines of the form that is due are passed on.
std::string frames_of(const ipc::TraceReply &reply) {
  std::string result;
  std::string_view text(reply.text, std::min<std::size_t>(reply.length, sizeof reply.text));
  while (!text.empty()) {
    const std::size_t end = std::min(text.find('\n'), text.size());
    const std::string_view line = text.substr(0, end);
    text.remove_prefix(std::min(end + 1, text.size()));
    if (line.starts_with("[0x") || line.starts_with("running = "))
      result += safe(line) + "\n";
  }
  return result;
}

} // namespace

SlowLog::SlowLog(sys::EventLoop &loop, SlowLogOwner &owner, const config::PoolConfig &pool,
                 status::Scoreboard &scoreboard)
    : owner_(owner), pool_(pool), scoreboard_(scoreboard), timer_(loop, [this] { give_up(); }) {}

SlowLog::~SlowLog() {
  for (const auto &[id, entry] : entries_)
    write(entry, nullptr, "tqfpm has ended meanwhile");
}

TimePoint SlowLog::due(TimePoint started) const {
  return pool_.request_slowlog_timeout > Duration::zero() ? started + pool_.request_slowlog_timeout : TimePoint::max();
}

TimePoint SlowLog::check(Request &request, TimePoint now) {
  const TimePoint when = due(request.started);
  if (request.slow_logged || now < when)
    return request.slow_logged ? TimePoint::max() : when;
  request.slow_logged = true;
  scoreboard_.add(status::Metric::slow_requests);
  sys::log().warning("[pool {}] child {}, script '{}' (request: \"{} {}\") executing too slow ({:.6f} sec), logging",
                     pool_.name, request.worker_pid, safe(request.params.get("SCRIPT_FILENAME")),
                     safe(request.params.get("REQUEST_METHOD")), safe(request.params.get("REQUEST_URI")),
                     std::chrono::duration<double>(now - request.started).count());
  const std::uint32_t id = next_id_++;
  entries_[id] = Entry{head_of(request), request.worker, request.key, request.worker_pid, now + kPatience};
  waiting_.push_back(id);
  ask();
  timer_.at(entries_.empty() ? TimePoint::max() : entries_.begin()->second.given_up);
  return TimePoint::max();
}

// php-fpm's lines, and in its style what tqfpm knows besides.
std::string SlowLog::head_of(const Request &request) const {
  const double wait = std::chrono::duration<double>(request.started - request.submitted).count();
  return fmt::format(
      "\n[{}]  [pool {}] pid {}\nscript_filename = {}\nrequest = {} \"{} {}\"\nqueue_wait = {:.6f} sec\n",
      sys::timestamp(), pool_.name, request.worker_pid, safe(request.params.get("SCRIPT_FILENAME")), safe(request.tag),
      safe(request.params.get("REQUEST_METHOD")), safe(request.params.get("REQUEST_URI")), wait);
}

void SlowLog::ask() {
  while (asked_ < kMostAsked && !waiting_.empty()) {
    const std::uint32_t id = waiting_.front();
    waiting_.pop_front();
    const auto found = entries_.find(id);
    if (found == entries_.end())
      continue; // given up
    const auto depth = static_cast<std::uint32_t>(pool_.request_slowlog_trace_depth);
    const ipc::SpawnerRequest request{ipc::SpawnKind::kTrace, id, found->second.pid, depth > 0 ? depth : kDefaultDepth,
                                      kBudget};
    const char *reason = "";
    if (!owner_.still_runs(found->second.worker, found->second.request))
      reason = "the request has ended before its worker could be read";
    else if (!owner_.ask_trace(request))
      reason = "the spawner takes no orders";
    if (*reason == 0) {
      ++asked_;
      continue;
    }
    write(found->second, nullptr, reason);
    entries_.erase(found);
  }
}

void SlowLog::answered(const ipc::TraceReply &reply) {
  asked_ -= asked_ > 0 ? 1 : 0;
  if (const auto found = entries_.find(reply.id); found != entries_.end()) {
    // What has been read may be the worker's next request, or another process with its pid.
    if (owner_.still_runs(found->second.worker, found->second.request))
      write(found->second, &reply, safe(reply.reason));
    else
      write(found->second, nullptr, "the request has ended while its worker was read");
    entries_.erase(found);
  }
  ask();
}

void SlowLog::spawner_gone() {
  for (const auto &[id, entry] : entries_)
    write(entry, nullptr, "the spawner has gone");
  entries_.clear();
  waiting_.clear();
  asked_ = 0;
}

void SlowLog::give_up() {
  const TimePoint now = Clock::now();
  while (!entries_.empty() && entries_.begin()->second.given_up <= now) {
    write(entries_.begin()->second, nullptr, "the spawner does not answer in time");
    entries_.erase(entries_.begin());
  }
  if (!entries_.empty())
    timer_.at(entries_.begin()->second.given_up);
}

void SlowLog::write(const Entry &entry, const ipc::TraceReply *reply, const std::string &reason) {
  std::string text = entry.head;
  if (reply != nullptr && reply->resident > 0)
    text += fmt::format("memory = {} kB (Pss {} kB)\n", reply->resident, reply->proportional);
  else
    text += "memory = unknown\n";
  if (reply != nullptr)
    text += frames_of(*reply);
  if (!reason.empty())
    text += "+++ dump failed: " + reason + "\n";
  while (log_.valid() && ::write(log_.get(), text.data(), text.size()) < 0 && errno == EINTR) {
  }
  if (reply == nullptr || reply->result != ipc::TraceResult::kNever || explained_)
    return;
  explained_ = true;
  sys::log().notice("[pool {}] no backtraces of {}: {}", pool_.name, pool_.php_binary, reason);
}

} // namespace tqfpm::dispatcher
