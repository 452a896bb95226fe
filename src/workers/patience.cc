#include "workers/patience.h"

#include <csignal>

#include "sys/log.h"

namespace tqfpm::workers {

using pool::DeadlineAction;
using pool::WorkerState;
using status::Metric;

bool Patience::step(TimePoint now) {
  if (!context_.roster.take_due())
    return false;
  for (std::size_t i = 0; i < context_.roster.slots(); ++i) {
    Worker *worker = context_.roster.at(i);
    if (worker != nullptr && !worker->dead())
      look(*worker, now);
  }
  return true;
}

void Patience::look(Worker &worker, TimePoint now) {
  if (worker.task.request != nullptr)
    context_.roster.look_at(context_.slow_log.check(*worker.task.request, now));
  if (worker.outputs.limit.owes())
    log_.tell_suppressed(worker, now, false);
  const pool::Deadline due = context_.roster.deadline(worker, now);
  context_.roster.look_at(due.next);
  switch (due.action) {
  case DeadlineAction::kNone:
    return;
  case DeadlineAction::kTerminate:
    terminate(worker, now);
    return;
  case DeadlineAction::kKill:
    kill(worker, now);
    return;
  case DeadlineAction::kGiveUp:
    starting_.unheard(worker, now);
    return;
  case DeadlineAction::kLose:
    running_.lose(worker);
    return;
  case DeadlineAction::kProbe:
    running_.probe(worker, now);
    return;
  }
}

// PHP raises its own time-out error and ends the request in order. A client that has gone meanwhile does not make a
// script endless.
void Patience::terminate(Worker &worker, TimePoint now) {
  if (worker.working()) {
    sys::log().warning("[pool {}] child {}, {} execution timed out ({:.6f} sec), terminating", context_.pool.name,
                       worker.pid, worker.task.request != nullptr ? work_text(*worker.task.request) : worker.task.words,
                       std::chrono::duration<double>(now - worker.task.since).count());
    context_.scoreboard.add(Metric::timeouts);
    worker.task.timed_out = true;
  } else {
    sys::log().warning("[pool {}] child {} does not come back from its request, terminating", context_.pool.name,
                       worker.pid);
  }
  worker.task.terminated = now;
  ending_.signal(worker, SIGPROF);
}

void Patience::kill(Worker &worker, TimePoint now) {
  const WorkerState state = context_.roster.state(worker);
  if (state == WorkerState::kStarting)
    sys::log().warning("[pool {}] child {} does not start, killing it", context_.pool.name, worker.pid);
  else if (state == WorkerState::kStopping)
    sys::log().warning("[pool {}] child {} does not end, killing it", context_.pool.name, worker.pid);
  ending_.kill(worker, worker.task.timed_out ? Metric::ended_timeout : Metric::ended_killed, now);
}

} // namespace tqfpm::workers
