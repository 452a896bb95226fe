#include "workers/ending.h"

#include <sys/wait.h>

#include <cerrno>
#include <csignal>
#include <cstring>
#include <utility>

#include "base/wait_status.h"
#include "sys/log.h"

namespace tqfpm::workers {

using pool::WorkerState;
using status::Metric;

namespace {

double age_of(const Worker &worker, TimePoint now) {
  return std::chrono::duration<double>(now - worker.life.spawned).count();
}

} // namespace

Ending::Ending(Context &context, WorkerLog &log)
    : context_(context), log_(log), faults_(static_cast<std::size_t>(context.global.emergency_restart_threshold),
                                            context.global.emergency_restart_interval) {}

void Ending::stop(Worker &worker, Metric why, TimePoint now) {
  TQFPM_ASSERT(worker.task.request == nullptr);
  worker.life.end = why;
  context_.roster.set(worker, WorkerState::kStopping, now);
  worker.connection.close();
  context_.launcher->end(worker);
}

void Ending::stop_idle(pool::VariantNumber variant, Metric why, TimePoint now) {
  while (const auto idle = context_.roster.table().newest_idle(variant))
    stop(*context_.roster.find(*idle), why, now);
}

void Ending::signal(const Worker &worker, int number) {
  if (worker.pid > 0 && !context_.children.system().kill(worker.pid, number))
    sys::log().warning("[pool {}] cannot send SIG{} to child {}: {}", context_.pool.name, sigabbrev_np(number),
                       worker.pid, strerror(errno));
}

// It is nobody's any more: a request that it would get now is lost with it.
void Ending::kill(Worker &worker, Metric why, TimePoint now) {
  if (!worker.life.end)
    worker.life.end = why;
  worker.life.killed = now;
  context_.roster.set(worker, WorkerState::kStopping, now);
  signal(worker, SIGKILL);
}

void Ending::misbehaved(Worker &worker, const std::string &what, TimePoint now) {
  sys::log().warning("[pool {}] child {} sent {}: killed", context_.pool.name, worker.pid, what);
  worker.connection.close();
  worker.channel.close();
  kill(worker, Metric::ended_killed, now);
}

// Memory that crashes have perhaps spoiled is shared by all workers of a template: enough of them, and there is a new
// one.
void Ending::count_fault(const Worker &worker, int status, TimePoint now) {
  const int number = WIFSIGNALED(status) ? WTERMSIG(status) : 0;
  const bool fault = number == SIGSEGV || number == SIGBUS || number == SIGABRT;
  if (!fault || !faults_.add(now) || context_.draining)
    return;
  context_.scoreboard.add(Metric::emergency_restarts);
  sys::log().warning(
      "[pool {}] emergency restart: too many workers have died by SIGSEGV, SIGBUS or SIGABRT; the others "
      "are replaced, each after its request",
      context_.pool.name);
  if (context_.fork_mode)
    context_.variants.renew(context_.roster.variant(worker), now);
}

void Ending::log_end(const Worker &worker, int status, TimePoint now) const {
  // Told to end, php-cgi exits with the code of the last script that has failed: 255 says nothing about this end.
  const bool quiet = worker.life.end && worker.life.killed == TimePoint{} && WIFEXITED(status);
  const std::string text = fmt::format("[pool {}] child {} {} after {:.6f} seconds from start", context_.pool.name,
                                       worker.pid, end_text(status), age_of(worker, now));
  if (quiet)
    sys::log().debug("{}", text);
  else if (WIFSIGNALED(status))
    sys::log().warning("{}", text);
  else
    sys::log().notice("{}", text);
}

void Ending::ended(Worker &worker, int status, TimePoint now) {
  log_.finish(worker, now, true);
  log_end(worker, status, now);
  worker.pid = -1; // it is no process any more: nothing may be given or sent to it
  worker.channel.close();
  worker.life.status = status;
  context_.roster.set(worker, WorkerState::kStopping, now);
  context_.roster.note(worker.id); // a whole answer may be there that came before the end
}

void Ending::conclude(Worker &worker, TimePoint now) {
  const int status = *worker.life.status;
  const bool told = worker.life.end.has_value();
  if (!told) {
    worker.life.end = WIFSIGNALED(status) ? Metric::ended_signal : Metric::ended_exit;
    replacing_ = true;
    count_fault(worker, status, now);
  }
  // One that was never given anything to do died of its start, and so would the next one.
  const bool by_itself = !told || *worker.life.end == Metric::ended_killed;
  if (by_itself && worker.served == 0 && !worker.working())
    context_.manager.start_failed(now);
  context_.scoreboard.add(*worker.life.end);
  if (worker.task.request != nullptr) {
    Event event;
    event.kind = Event::Kind::kLost;
    event.request = std::exchange(worker.task.request, nullptr);
    event.worker = worker.id;
    event.timed_out = worker.task.timed_out;
    event.text = event.timed_out ? "timeout"
                                 : fmt::format("{}, {:.1f} s old, {} requests served", end_text(status),
                                               age_of(worker, now), worker.served);
    context_.events.push(std::move(event));
  }
  retire(worker, now);
  kill_orphans();
  if (context_.fork_mode)
    context_.be_ready(now);
  else
    context_.fail("php-cgi " + end_text(status) + " before it could serve; run " + context_.pool.php_binary + " -v");
  context_.changed();
}

void Ending::retire(Worker &worker, TimePoint now) {
  const pool::VariantNumber variant = context_.roster.variant(worker);
  context_.board.give(context_.holder);
  if (worker.pid > 0)
    context_.children.forget(worker.pid);
  worker.connection.close();
  worker.channel.close();
  context_.roster.remove(worker);
  if (variant != 0)
    context_.variants.tidy(variant, now);
}

bool Ending::all_known() const {
  if (context_.children.expecting())
    return false;
  for (std::size_t i = 0; i < context_.roster.slots(); ++i) {
    const Worker *worker = context_.roster.at(i);
    if (worker != nullptr && worker->pid < 0 && !worker->dead())
      return false;
  }
  return true;
}

// A worker keeps its descendants below itself; when it has ended they are ours, and nobody else leaves us any. A child
// that comes up is not known by its pid yet; when it is we come back.
void Ending::kill_orphans() {
  if (!context_.pool.process_kill_descendants)
    return;
  orphans_wait_ = !all_known();
  if (orphans_wait_)
    return;
  for (const pid_t pid : context_.children.strangers()) {
    if (context_.children.system().kill(pid, SIGKILL))
      sys::log().notice("[pool {}] killed process {}, left by a script whose worker has ended", context_.pool.name,
                        pid);
  }
}

} // namespace tqfpm::workers
