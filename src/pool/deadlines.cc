#include "pool/deadlines.h"

#include <algorithm>

namespace tqfpm::pool {

namespace {

Deadline at(TimePoint due, TimePoint now, DeadlineAction action, Duration again) {
  return now < due ? Deadline{DeadlineAction::kNone, due} : Deadline{action, now + again};
}

// In two steps.
Deadline overdue(const WorkerClock &worker, TimePoint due, const Deadlines &limits, TimePoint now) {
  if (worker.terminated == TimePoint{})
    return at(due, now, DeadlineAction::kTerminate, limits.grace);
  return at(worker.terminated + limits.grace, now, DeadlineAction::kKill, limits.stop);
}

// Of a request that PHP works on, or of a worker that has none any more and has not come back.
Deadline occupied(const WorkerClock &worker, const Deadlines &limits, TimePoint now) {
  if (worker.work_since != TimePoint{})
    return limits.terminate > Duration::zero() ? overdue(worker, worker.work_since + limits.terminate, limits, now)
                                               : Deadline{};
  if (worker.state == WorkerState::kFinishing)
    return {}; // request_terminate_timeout_track_finished = no
  return overdue(worker, worker.since + limits.come_back, limits, now);
}

// Most often it has ended, and that tells more. What one that lives had to answer is lost.
Deadline cut_off(const WorkerClock &worker, const Deadlines &limits, TimePoint now) {
  const Deadline other = occupied(worker, limits, now);
  if (other.action != DeadlineAction::kNone || (!worker.waits && !limits.probes))
    return other;
  const DeadlineAction action = worker.waits ? DeadlineAction::kLose : DeadlineAction::kProbe;
  const Deadline explained = at(worker.since + limits.explain, now, action, Duration::zero());
  return {explained.action, std::min(explained.next, other.next)};
}

} // namespace

Deadline deadline(const WorkerClock &worker, const Deadlines &limits, TimePoint now) {
  switch (worker.state) {
  case WorkerState::kFree:
  case WorkerState::kIdle:
    return {};
  case WorkerState::kStarting:
    return worker.has_process ? at(worker.since + limits.start, now, DeadlineAction::kKill, limits.stop)
                              : at(worker.since + limits.first_sign, now, DeadlineAction::kGiveUp, limits.stop);
  case WorkerState::kStopping:
    return at((worker.killed != TimePoint{} ? worker.killed : worker.since) + limits.stop, now, DeadlineAction::kKill,
              limits.stop);
  case WorkerState::kCutOff:
    return cut_off(worker, limits, now);
  case WorkerState::kBusy:
  case WorkerState::kAbandoned:
  case WorkerState::kFinishing:
  case WorkerState::kReturning:
  case WorkerState::kProbed:
    return occupied(worker, limits, now);
  }
  return {};
}

} // namespace tqfpm::pool
