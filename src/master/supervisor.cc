// The master's generations: starting, hearing, draining and burying dispatchers.
#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstring>

#include "base/wait_status.h"
#include "config/dump.h"
#include "master/master.h"
#include "status/process_board.h"
#include "sys/child_exec.h"
#include "sys/log.h"
#include "sys/paths.h"
#include "sys/process.h"
#include "sys/socket.h"

namespace tqfpm::master {

namespace {

constexpr Duration kAlonePatience = seconds(3);
constexpr Duration kDrainGrace = seconds(5);
constexpr unsigned kPings = 4; // within watchdog_timeout
constexpr Duration kLongWatch = seconds(5);

// The environment of a dispatcher: ours without what is meant for the master alone.
std::vector<std::string> dispatcher_environment() {
  std::vector<std::string> result;
  for (char **entry = environ; *entry != nullptr; ++entry) {
    const std::string_view text = *entry;
    if (!text.starts_with("NOTIFY_SOCKET=") && !text.starts_with("LISTEN_") && !text.starts_with("TQFPM_STATE="))
      result.emplace_back(text);
  }
  return result;
}

std::vector<std::string> dispatcher_arguments(const Options &options, const std::string &pool) {
  std::vector<std::string> arguments = {"tqfpm: pool " + pool, "--dispatcher"};
  const std::vector<std::string> php = options.php.arguments();
  arguments.insert(arguments.end(), php.begin(), php.end());
  return arguments;
}

} // namespace

bool Generation::tell(ipc::MasterMessage type, std::uint64_t argument, int fd) const {
  const ipc::MasterRequest request{type, 0, argument};
  const int fds[] = {fd};
  return sys::send_packet(control.get(), &request, sizeof request,
                          fd >= 0 ? std::span<const int>(fds) : std::span<const int>());
}

// Adds a generation to its pool and listens to it.
Generation &Master::add_generation(Pool &pool, pid_t pid, unsigned number, sys::Fd control) {
  auto generation = std::make_unique<Generation>();
  generation->pid = pid;
  generation->number = number;
  generation->started = Clock::now();
  generation->control = std::move(control);
  Generation &reference = *generation;
  generation->watch = std::make_unique<sys::IoWatch>(
      loop_, generation->control.get(), [this, &pool, &reference](unsigned) { control_readable(pool, reference); });
  generation->watch->set(sys::kReadable);
  pool.last_number = std::max(pool.last_number, number);
  pool.generations.push_back(std::move(generation));
  return reference;
}

Status Master::start_generation(Pool &pool) {
  auto control = sys::packet_pair();
  auto text = sys::sealed_text("tqfpm-config", config::dump_pool(config_, pool.config));
  if (!control.ok() || !text.ok())
    return control.ok() ? text.error() : control.error();
  sys::ExecPlan plan;
  plan.path = sys::program_path();
  plan.arguments = dispatcher_arguments(options_, pool.name);
  plan.environment = dispatcher_environment();
  plan.fds = {{null_.get(), 0},
              {control.value().theirs.get(), ipc::kControlFd},
              {text.value().get(), ipc::kConfigFd},
              {pool.scoreboard_fd.get(), ipc::kScoreboardFd},
              {sys::log().fd(), ipc::kErrorLogFd},
              {pool.listener.get(), ipc::kListenFd},
              {processes_fd_.get(), ipc::kProcessesFd}};
  if (background_) { // whoever waits for the end of the daemon's output must not wait for a dispatcher's
    plan.fds.emplace_back(null_.get(), 1);
    plan.fds.emplace_back(null_.get(), 2);
  }
  if (pool.status_listener.valid())
    plan.fds.emplace_back(pool.status_listener.get(), ipc::kStatusListenFd);
  sys::Fd access;
  if (!pool.config.access_log.empty()) {
    auto fd = sys::open_log(pool.config.access_log);
    if (!fd.ok())
      return Error{"[pool " + pool.name + "] access.log: " + fd.error().message};
    access = std::move(fd.value());
    plan.fds.emplace_back(access.get(), ipc::kAccessLogFd);
  }
  sys::Fd slow;
  if (pool.config.request_slowlog_timeout > Duration::zero()) {
    auto fd = sys::open_log(pool.config.slowlog);
    if (!fd.ok())
      return Error{"[pool " + pool.name + "] slowlog: " + fd.error().message};
    slow = std::move(fd.value());
    plan.fds.emplace_back(slow.get(), ipc::kSlowLogFd);
  }
  const sys::ExecResult child = sys::child_exec(plan);
  if (child.pid < 0)
    return Error{
        fmt::format("[pool {}] {} {}: {}", pool.name, sys::stage_text(child.stage), plan.path, strerror(child.error)),
        child.error};
  Generation &generation = add_generation(pool, child.pid, pool.last_number + 1, std::move(control.value().ours));
  generation.answers = true;
  sys::log().debug("[pool {}] dispatcher {} started, generation {}", pool.name, child.pid, generation.number);
  return success();
}

void Master::control_readable(Pool &pool, Generation &generation) {
  while (true) {
    ipc::DispatcherReport report{};
    const sys::Packet packet = sys::receive_packet(generation.control.get(), &report, sizeof report);
    if (packet.length < 0 && errno == EAGAIN)
      return;
    if (packet.length != static_cast<ssize_t>(sizeof report)) {
      generation.watch->set(0); // its end is told by SIGCHLD
      return;
    }
    heard(pool, generation, report);
  }
}

void Master::heard(Pool &pool, Generation &generation, const ipc::DispatcherReport &report) {
  const std::string text(report.text, std::min<std::size_t>(report.length, sizeof report.text));
  switch (report.type) {
  case ipc::DispatcherMessage::kReady:
    if (!generation.gone) // nobody makes room for one that has ended
      serving(pool, generation);
    return;
  case ipc::DispatcherMessage::kFailed:
    generation.failure = text;
    return;
  case ipc::DispatcherMessage::kDraining:
    generation.accepting = false;
    check_ready();
    return;
  case ipc::DispatcherMessage::kAlive:
    generation.answers = true;
    generation.pings = 0;
    return;
  case ipc::DispatcherMessage::kRenew:
    if (stop_ != Stop::kNo || generation.phase == Phase::kDraining || generation.gone)
      return;
    pool.wants_renewal = true;
    sys::log().notice("[pool {}] a new generation is needed: {}", pool.name, text);
    restart_later(pool, generation.started);
    return;
  }
}

void Master::serving(Pool &pool, Generation &generation) {
  if (generation.phase != Phase::kStarting)
    return;
  generation.phase = Phase::kServing;
  pool.wants_renewal = false;
  pool.restart.reset();
  if (pool.scoreboard != nullptr)
    static_cast<status::Scoreboard *>(pool.scoreboard->data())->set(status::Metric::generation, generation.number);
  for (const auto &old : pool.generations) {
    if (old.get() != &generation && old->number < generation.number && old->phase != Phase::kDraining)
      drain(pool, *old, &generation);
  }
  if (stop_ == Stop::kGraceful)
    drain(pool, generation, nullptr);
  check_ready();
}

// Ready, once: when the newest generation of each pool serves, and no other one takes new connections any more. One
// that hangs does not hold that up for ever.
void Master::check_ready() {
  if (started_ || stop_ != Stop::kNo)
    return;
  bool alone = true;
  for (const auto &pool : pools_) {
    if (pool->removed)
      continue;
    if (pool->generations.empty() || pool->generations.back()->phase != Phase::kServing)
      return;
    for (const auto &each : pool->generations)
      alone = alone && (each == pool->generations.back() || !each->accepting);
  }
  if (alone)
    ready();
  else if (ready_timer_.due() == TimePoint::max())
    ready_timer_.at(Clock::now() + kAlonePatience);
}

std::uint64_t Master::drain_limit() const {
  return static_cast<std::uint64_t>(
      std::chrono::duration_cast<milliseconds>(config_.global.process_control_timeout).count());
}

// When a dispatcher whose drain begins now should have ended by itself.
TimePoint Master::drain_end() const {
  const Duration limit = config_.global.process_control_timeout;
  return limit > Duration::zero() ? Clock::now() + limit + kDrainGrace : TimePoint::max();
}

// With a successor, idle connections go from one dispatcher to the other over a socket of their own.
void Master::drain(Pool &pool, Generation &old, const Generation *successor) {
  old.phase = Phase::kDraining;
  sys::Fd ours;
  if (successor != nullptr) {
    auto pair = sys::packet_pair();
    if (pair.ok() && successor->tell(ipc::MasterMessage::kAdopt, 0, pair.value().theirs.get()))
      ours = std::move(pair.value().ours);
  }
  old.overdue = drain_end();
  if (!old.tell(ipc::MasterMessage::kDrain, drain_limit(), ours.get()))
    sys::log().warning("[pool {}] dispatcher {} cannot be told to finish: {}", pool.name, old.pid, strerror(errno));
  sys::log().debug("[pool {}] dispatcher {} finishes, generation {}", pool.name, old.pid, old.number);
}

// Who owes too many answers is killed; its end is an end like any other. Rounds are counted, not time: a machine that
// has stood still has not given it any.
void Master::watch_generations() {
  const Duration limit = config_.global.watchdog_timeout;
  const TimePoint now = Clock::now();
  for (const auto &[pool, generation] : all())
    end_silent(*pool, *generation, now);
  watch_timer_.at(now + (limit > Duration::zero() ? limit / kPings : kLongWatch));
}

void Master::end_silent(const Pool &pool, Generation &generation, TimePoint now) {
  const bool silent = generation.answers && generation.pings >= kPings;
  if (silent || now >= generation.overdue) {
    sys::log().warning("[pool {}] dispatcher {} {}, killing it", pool.name, generation.pid,
                       silent ? "does not answer" : "does not finish in time");
    (void)::kill(generation.pid, SIGKILL);
    return;
  }
  if (config_.global.watchdog_timeout > Duration::zero() && generation.phase != Phase::kStarting) {
    ++generation.pings;
    (void)generation.tell(ipc::MasterMessage::kPing, 0, -1); // one that takes none is silent
  }
}

// Generations of pools that are not configured any more, and sockets that nobody wants.
void Master::drop_unclaimed() {
  for (Inheritance::Member &member : inheritance_.generations) {
    if (!member.control.valid())
      continue;
    auto pool = std::make_unique<Pool>();
    pool->name = member.pool;
    pool->removed = true;
    drain(*pool, add_generation(*pool, member.pid, member.number, std::move(member.control)), nullptr);
    pools_.push_back(std::move(pool));
  }
  for (InheritedSocket &each : inheritance_.sockets) {
    if (each.fd.valid() && !each.given && each.address.starts_with("/"))
      ::unlink(each.address.c_str());
    each.fd.reset();
  }
}

std::vector<std::pair<Pool *, Generation *>> Master::all() const {
  std::vector<std::pair<Pool *, Generation *>> result;
  for (const auto &pool : pools_) {
    for (const auto &generation : pool->generations)
      result.emplace_back(pool.get(), generation.get());
  }
  return result;
}

bool Master::any_left() const {
  return !all().empty();
}

void Master::reap() {
  while (const auto child = sys::next_ended_child()) {
    if (check_ != nullptr && child->pid == check_->pid()) {
      checked(check_->ended(child->status));
      continue;
    }
    for (const auto &[pool, generation] : all()) {
      if (generation->pid == child->pid) {
        generation_ended(*pool, *generation, child->status);
        break;
      }
    }
  }
  if (stop_ != Stop::kNo && !any_left())
    finish();
}

void Master::generation_ended(Pool &pool, Generation &generation, int status) {
  static_cast<status::ProcessBoard *>(processes_->data())->forget(generation.pid);
  generation.gone = true;
  control_readable(pool, generation); // its last words
  const auto found = std::find_if(pool.generations.begin(), pool.generations.end(),
                                  [&](const auto &each) { return each.get() == &generation; });
  ended_.push_back(std::move(*found));
  pool.generations.erase(found);
  ended_.back()->watch.reset();
  const std::string how = end_text(status);
  sys::log().debug("[pool {}] dispatcher {} {}", pool.name, generation.pid, how);
  if (generation.phase == Phase::kDraining || stop_ != Stop::kNo || pool.removed) {
    check_ready();
    return;
  }
  const std::string why = generation.failure.empty() ? "dispatcher " + how : generation.failure;
  if (!started_ && !inheritance_.reloaded) {
    give_up("[pool " + pool.name + "] " + why);
    return;
  }
  const bool another = std::any_of(pool.generations.begin(), pool.generations.end(),
                                   [](const auto &each) { return each->phase == Phase::kServing; });
  if (another) {
    sys::log().error("[pool {}] the new generation does not start, the old one goes on: {}", pool.name, why);
    if (pool.wants_renewal) // which cannot start what it needs
      restart_later(pool, generation.started);
    check_ready();
    return;
  }
  sys::log().error("[pool {}] {}", pool.name, why);
  restart_later(pool, generation.started);
}

void Master::restart_later(Pool &pool, TimePoint started) {
  const TimePoint now = Clock::now();
  const Duration delay = pool.backoff.failed(started, now);
  sys::log().notice("[pool {}] starting another dispatcher in {} ms", pool.name,
                    std::chrono::duration_cast<milliseconds>(delay).count());
  pool.restart = std::make_unique<sys::TimerWatch>(loop_, [this, &pool] {
    if (auto status = start_generation(pool); !status.ok()) {
      sys::log().error("{}", status.error().message);
      start_again_.push_back(&pool); // not here: it would replace this timer inside its own callback
    }
  });
  pool.restart->at(now + delay);
}

void Master::forget_ended() {
  ended_.clear();
  for (Pool *pool : std::exchange(start_again_, {}))
    restart_later(*pool, Clock::now());
}

} // namespace tqfpm::master
