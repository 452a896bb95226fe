#include "workers/slow_log.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/text.h"
#include "sys/log.h"
#include "workers/roster.h"

namespace tqfpm::workers {

namespace {

constexpr std::size_t kMostAsked = 8;  // more would keep the spawner from starting php-cgi
constexpr std::uint32_t kBudget = 100; // ms for one worker
constexpr Duration kPatience = seconds(3);
constexpr std::uint32_t kDefaultDepth = 20; // php-fpm takes 0 for not set

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

SlowLog::SlowLog(sys::EventLoop &loop, const config::PoolConfig &pool, status::Scoreboard &scoreboard,
                 SpawnerLink &spawner, const Roster &roster)
    : pool_(pool), spawner_(spawner), roster_(roster), scoreboard_(scoreboard) {
  log_.attach(loop);
  log_.on_lost([this](std::uint64_t lines) {
    scoreboard_.add(status::Metric::log_lines_lost, lines);
    sys::log().warning("[pool {}] {} entries of the slow log were lost, it could not be written", pool_.name, lines);
  });
}

SlowLog::~SlowLog() {
  for (const auto &[number, entry] : entries_)
    write(entry, nullptr, "tqfpm has ended meanwhile");
  log_.on_lost({});
  log_.detach();
  if (log_.valid())
    log_.finish(seconds(1));
}

TimePoint SlowLog::due(TimePoint started) const {
  return pool_.request_slowlog_timeout > Duration::zero() ? started + pool_.request_slowlog_timeout : TimePoint::max();
}

TimePoint SlowLog::check(pool::Request &request, TimePoint now) {
  const TimePoint when = due(request.started);
  if (request.slow_logged || now < when)
    return request.slow_logged ? TimePoint::max() : when;
  request.slow_logged = true;
  scoreboard_.add(status::Metric::slow_requests);
  sys::log().warning("[pool {}] child {}, script '{}' (request: \"{} {}\") executing too slow ({:.6f} sec), logging",
                     pool_.name, request.worker_pid, safe(request.params.get("SCRIPT_FILENAME")),
                     safe(request.params.get("REQUEST_METHOD")), safe(request.params.get("REQUEST_URI")),
                     std::chrono::duration<double>(now - request.started).count());
  const std::uint32_t number = next_++;
  entries_[number] = Entry{head_of(request), request.worker, request.key, request.worker_pid};
  waiting_.push_back(number);
  ask();
  return TimePoint::max();
}

// php-fpm's lines, and in its style what tqfpm knows besides.
std::string SlowLog::head_of(const pool::Request &request) const {
  const double wait = std::chrono::duration<double>(request.started - request.submitted).count();
  return fmt::format(
      "\n[{}]  [pool {}] pid {}\nscript_filename = {}\nrequest = {} \"{} {}\"\nqueue_wait = {:.6f} sec\n",
      sys::timestamp(), pool_.name, request.worker_pid, safe(request.params.get("SCRIPT_FILENAME")), safe(request.tag),
      safe(request.params.get("REQUEST_METHOD")), safe(request.params.get("REQUEST_URI")), wait);
}

void SlowLog::ask() {
  while (asked_ < kMostAsked && !waiting_.empty()) {
    const std::uint32_t number = waiting_.front();
    waiting_.pop_front();
    const auto found = entries_.find(number);
    if (found == entries_.end())
      continue;
    if (!still_runs(found->second)) {
      write(found->second, nullptr, "the request has ended before its worker could be read");
      entries_.erase(found);
      continue;
    }
    const auto depth = static_cast<std::uint32_t>(pool_.request_slowlog_trace_depth);
    const ipc::SpawnerRequest request{ipc::SpawnKind::kTrace, 0, found->second.pid, depth > 0 ? depth : kDefaultDepth,
                                      kBudget};
    ++asked_;
    spawner_.ask(
        request, {}, [this, number](const SpawnerAnswer &answer) { answered(number, answer); }, kPatience);
  }
}

bool SlowLog::still_runs(const Entry &entry) const {
  const Worker *worker = roster_.find(entry.worker);
  return worker != nullptr && worker->task.request != nullptr && worker->task.request->key == entry.request;
}

void SlowLog::answered(std::uint32_t number, const SpawnerAnswer &answer) {
  asked_ -= asked_ > 0 ? 1 : 0;
  if (const auto found = entries_.find(number); found != entries_.end()) {
    // What has been read may be the worker's next request, or another process with its pid.
    if (!answer.ok())
      write(found->second, nullptr, answer.why);
    else if (still_runs(found->second))
      write(found->second, answer.trace, safe(answer.trace->reason));
    else
      write(found->second, nullptr, "the request has ended while its worker was read");
    entries_.erase(found);
  }
  ask();
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
  if (log_.valid())
    log_.write(text);
  if (reply == nullptr || reply->result != ipc::TraceResult::kNever || explained_)
    return;
  explained_ = true;
  sys::log().notice("[pool {}] no backtraces of {}: {}", pool_.name, pool_.php_binary, reason);
}

} // namespace tqfpm::workers
