// The crew's last part: how workers end, by order, by time-out or by themselves.
#include <sys/wait.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstring>
#include <utility>

#include "dispatcher/client.h"
#include "dispatcher/crew.h"
#include "sys/log.h"
#include "sys/proc_info.h"

namespace tqfpm::dispatcher {

using pool::WorkerId;
using pool::WorkerState;
using status::Metric;

namespace {

constexpr Duration kStopPatience = seconds(10); // from the channel's end to SIGKILL

double age_of(const Backend &backend) {
  return std::chrono::duration<double>(Clock::now() - backend.spawned()).count();
}

} // namespace

std::string end_text(int status) {
  if (WIFSIGNALED(status)) {
    const int number = WTERMSIG(status);
    const char *name = sigabbrev_np(number);
    return fmt::format("exited on signal {} (SIG{}{})", number, name != nullptr ? name : "?",
                       WCOREDUMP(status) ? " - core dumped" : "");
  }
  return fmt::format("exited with code {}", WEXITSTATUS(status));
}

std::string work_text(const Request &request) {
  return fmt::format("script '{}' (request: \"{} {}\")", request.params.get("SCRIPT_FILENAME"),
                     request.params.get("REQUEST_METHOD"), request.params.get("REQUEST_URI"));
}

void Crew::stop_worker(Backend &backend, Metric why) {
  backend.end = why;
  table_.set(backend.id(), WorkerState::kStopping, Clock::now());
  if (backend.channel_watch != nullptr)
    backend.channel_watch->set(0);
  backend.channel.reset();
  backend.disconnect();
  if (!fork_mode_)
    signal_worker(backend, SIGTERM); // php-cgi ends in order
  arm_deadline(Clock::now() + kStopPatience);
}

void Crew::signal_worker(const Backend &backend, int number) {
  if (backend.pid <= 0)
    return;
  if (::kill(backend.pid, number) != 0)
    sys::log().warning("[pool {}] cannot send SIG{} to child {}: {}", pool_.name, sigabbrev_np(number), backend.pid,
                       strerror(errno));
}

void Crew::kill_worker(Backend &backend, Metric why) {
  if (!backend.end)
    backend.end = why;
  signal_worker(backend, SIGKILL);
}

// Memory that crashes have perhaps spoiled is shared by all workers of a template: enough of them, and there is a new
// one.
void Crew::count_fault(const Backend &backend, int status) {
  const int number = WIFSIGNALED(status) ? WTERMSIG(status) : 0;
  const bool fault = number == SIGSEGV || number == SIGBUS || number == SIGABRT;
  if (!fault || !faults_.add(Clock::now()) || draining_)
    return;
  scoreboard_.add(Metric::emergency_restarts);
  sys::log().warning(
      "[pool {}] emergency restart: too many workers have died by SIGSEGV, SIGBUS or SIGABRT; the others "
      "are replaced, each after its request",
      pool_.name);
  if (fork_mode_)
    variant_of(backend).renew();
}

void Crew::log_end(const Backend &backend, int pid, int status) {
  const bool quiet = backend.end && WIFEXITED(status) && WEXITSTATUS(status) == 0;
  const std::string text = fmt::format("[pool {}] child {} {} after {:.6f} seconds from start", pool_.name, pid,
                                       end_text(status), age_of(backend));
  if (quiet)
    sys::log().debug("{}", text);
  else if (WIFSIGNALED(status))
    sys::log().warning("{}", text);
  else
    sys::log().notice("{}", text);
}

void Crew::worker_ended(Backend &backend, int status) {
  const WorkerId id = backend.id();
  const bool told = backend.end.has_value();
  backend.take_output();
  log_end(backend, backend.pid, status);
  // It is no process any more: nothing may be given or sent to it.
  by_pid_.erase(std::exchange(backend.pid, -1));
  table_.set(id, WorkerState::kStopping, Clock::now());
  backend.drain(); // a whole answer may be there that came before the end
  Request *request = backend.request();
  if (!told) {
    backend.end = WIFSIGNALED(status) ? Metric::ended_signal : Metric::ended_exit;
    replacing_ = true;
    count_fault(backend, status);
  }
  // One that was never given anything to do died of its start, and so would the next one.
  const bool by_itself = !told || *backend.end == Metric::ended_killed;
  if (by_itself && backend.served == 0 && backend.work_since == TimePoint{})
    manager_.start_failed(Clock::now());
  scoreboard_.add(*backend.end);
  const std::string how = backend.terminated ? kTimedOut
                                             : fmt::format("{}, {:.1f} s old, {} requests served", end_text(status),
                                                           age_of(backend), backend.served);
  backend.abandon();
  retire(id);
  kill_orphans();
  if (request != nullptr)
    owner_.request_lost(*request, how);
  if (fork_mode_)
    be_ready();
  else if (!ready_)
    owner_.crew_failed("php-cgi " + end_text(status) + " before it could serve; run " + pool_.php_binary + " -v");
  owner_.crew_changed();
}

// A worker keeps its descendants below itself; when it has ended they are ours, and nobody else leaves us any.
void Crew::kill_orphans() {
  const auto starts = [](const auto &backend) { return backend != nullptr && backend->pid < 0; };
  if (!pool_.process_kill_descendants)
    return;
  orphans_wait_ = !orders_.empty() || std::any_of(backends_.begin(), backends_.end(), starts);
  if (orphans_wait_)
    return; // a child that comes up is not known by its pid yet; when it is we come back
  for (const pid_t pid : sys::children_of(::getpid())) {
    const bool known = by_pid_.contains(pid) || pid == spawner_.pid || templates_.contains(pid);
    if (known || ::kill(pid, SIGKILL) != 0)
      continue;
    sys::log().notice("[pool {}] killed process {}, left by a script whose worker has ended", pool_.name, pid);
  }
}

void Crew::retire(WorkerId id) {
  const pool::VariantNumber variant = table_.variant(id);
  processes_.give(holder_);
  if (const auto known = by_pid_.find(backends_[id.index]->pid); known != by_pid_.end() && known->second == id)
    by_pid_.erase(known);
  retired_.push_back(std::move(backends_[id.index]));
  table_.remove(id);
  if (variant != 0)
    tidy(variant, "");
}

void Crew::sweep() {
  retired_.clear();
  forgotten_.clear();
  for (const auto &variant : variants_) {
    if (variant != nullptr)
      variant->sweep();
  }
}

void Crew::reap() {
  // A worker that died at once: its HELLO, which tells its pid, is still unread.
  for (std::size_t i = 0; i < backends_.size(); ++i) {
    if (backends_[i] != nullptr && backends_[i]->pid < 0 && backends_[i]->channel.valid())
      channel_readable(backends_[i]->id());
  }
  int status = 0;
  while (true) {
    const pid_t pid = ::waitpid(-1, &status, WNOHANG);
    if (pid < 0 && errno == EINTR)
      continue;
    if (pid <= 0)
      return;
    templates_.erase(pid);
    const auto variant = std::find_if(variants_.begin(), variants_.end(),
                                      [pid](const auto &each) { return each != nullptr && each->is_template(pid); });
    if (const auto found = by_pid_.find(pid); found != by_pid_.end())
      worker_ended(*backends_[found->second.index], status);
    else if (variant != variants_.end())
      (*variant)->ended(end_text(status));
    else if (pid == spawner_.pid)
      spawner_ended(end_text(status));
    else if (!orders_.empty()) {
      early_ends_[pid] = status;
      orphans_wait_ = pool_.process_kill_descendants;
    } else
      kill_orphans(); // what a script has left behind, or a former template: its children are ours now
  }
}

void Crew::check_deadlines() {
  const TimePoint now = Clock::now();
  for (std::size_t i = 0; i < backends_.size(); ++i) {
    const auto id = table_.at(i);
    if (!id)
      continue;
    Backend &backend = *backends_[i];
    if (table_.state(*id) == WorkerState::kStopping)
      check_stopping(backend, now);
    else if (table_.state(*id) == WorkerState::kStarting)
      check_starting(backend, now);
    else if (is_cut_off(backend))
      check_cut_off(backend, now);
    else if (backend.work_since != TimePoint{})
      check_running(backend, now);
  }
}

// php.spawn = exec: it has closed its connection, and is not being asked whether it is idle again.
bool Crew::is_cut_off(const Backend &backend) const {
  return !fork_mode_ && table_.state(backend.id()) == WorkerState::kAborting && !backend.connected() &&
         !backend.probing;
}

// Most often it has ended, and that tells more. One that lives is asked whether it takes another connection; what it
// had to answer on the closed one is lost.
void Crew::check_cut_off(Backend &backend, TimePoint now) {
  const TimePoint due = table_.since(backend.id()) + kReturnPatience;
  if (now < due) {
    arm_deadline(due);
    return;
  }
  if (Request *request = backend.request()) {
    backend.left_work = work_text(*request);
    backend.abandon();
    owner_.request_lost(*request, kClosed);
  }
  probe(backend);
  if (backend.work_since != TimePoint{} && pool_.request_terminate_timeout > Duration::zero())
    arm_deadline(backend.work_since + pool_.request_terminate_timeout);
}

void Crew::check_starting(Backend &backend, TimePoint now) {
  const TimePoint due = table_.since(backend.id()) + kStartPatience;
  if (now < due) {
    arm_deadline(due);
    return;
  }
  if (backend.pid > 0) { // its end is seen by reap()
    sys::log().warning("[pool {}] child {} does not start, killing it", pool_.name, backend.pid);
    kill_worker(backend, Metric::ended_killed);
    arm_deadline(now + kStopPatience);
  } else {
    start_failed(backend, "php-cgi did not report in time");
  }
}

void Crew::check_stopping(Backend &backend, TimePoint now) {
  const TimePoint due = table_.since(backend.id()) + kStopPatience;
  if (now < due) {
    arm_deadline(due);
    return;
  }
  sys::log().warning("[pool {}] child {} does not end, killing it", pool_.name, backend.pid);
  kill_worker(backend, Metric::ended_killed);
  arm_deadline(now + kStopPatience);
}

// In two steps: SIGPROF makes PHP raise its own time-out error and end the request in order; then SIGKILL. A client
// that has gone meanwhile does not make a script endless.
void Crew::check_running(Backend &backend, TimePoint now) {
  if (backend.request() != nullptr)
    arm_deadline(slow_log_.check(*backend.request(), now));
  if (pool_.request_terminate_timeout <= Duration::zero())
    return;
  const TimePoint due = backend.work_since + pool_.request_terminate_timeout;
  if (now < due) {
    arm_deadline(due);
  } else if (!backend.terminated) {
    sys::log().warning("[pool {}] child {}, {} execution timed out ({:.6f} sec), terminating", pool_.name, backend.pid,
                       backend.request() != nullptr ? work_text(*backend.request()) : backend.left_work,
                       std::chrono::duration<double>(now - backend.work_since).count());
    scoreboard_.add(Metric::timeouts);
    backend.terminated = true;
    signal_worker(backend, SIGPROF);
    arm_deadline(now + pool_.request_terminate_grace);
  } else if (now >= due + pool_.request_terminate_grace) {
    kill_worker(backend, Metric::ended_timeout);
  } else {
    arm_deadline(due + pool_.request_terminate_grace);
  }
}

void Crew::arm_deadline(TimePoint when) {
  if (when < deadline_timer_.due())
    deadline_timer_.at(when);
}

} // namespace tqfpm::dispatcher
