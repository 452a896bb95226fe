#include "workers/roster.h"

#include <utility>

#include "base/result.h"

namespace tqfpm::workers {

Roster::Roster(sys::EventLoop &loop, std::size_t slots, const pool::Deadlines &deadlines)
    : deadlines_(deadlines), table_(slots), workers_(slots), timer_(loop, [this] { due_ = true; }) {}

Worker *Roster::add(pool::VariantNumber variant, TimePoint now) {
  const auto id = table_.start(now, variant);
  if (!id)
    return nullptr;
  workers_[id->index] = std::make_unique<Worker>(*id, now);
  Worker &worker = *workers_[id->index];
  look_at(deadline(worker, now).next);
  return &worker;
}

void Roster::remove(Worker &worker) {
  TQFPM_ASSERT(worker.task.request == nullptr); // it has been answered, lost, returned or abandoned
  const pool::WorkerId id = worker.id;
  removed_.push_back(std::move(workers_[id.index]));
  table_.remove(id);
}

Worker *Roster::find(pool::WorkerId id) const {
  return table_.valid(id) ? workers_[id.index].get() : nullptr;
}

void Roster::set(Worker &worker, pool::WorkerState state, TimePoint now) {
  table_.set(worker.id, state, now);
  const pool::Deadline due = deadline(worker, now);
  look_at(due.action == pool::DeadlineAction::kNone ? due.next : now);
}

pool::Deadline Roster::deadline(const Worker &worker, TimePoint now) const {
  pool::WorkerClock clock;
  clock.state = table_.state(worker.id);
  clock.since = table_.since(worker.id);
  clock.work_since = worker.task.since;
  clock.terminated = worker.task.terminated;
  clock.killed = worker.life.killed;
  clock.has_process = worker.pid > 0;
  clock.waits = worker.task.request != nullptr;
  return pool::deadline(clock, deadlines_, now);
}

void Roster::note(pool::WorkerId id) {
  Worker *worker = find(id);
  if (worker != nullptr && !std::exchange(worker->noted, true))
    noted_.push_back(id);
}

Worker *Roster::next_noted() {
  while (next_ < noted_.size()) {
    Worker *worker = find(noted_[next_++]);
    if (worker == nullptr)
      continue;
    worker->noted = false;
    return worker;
  }
  noted_.clear();
  next_ = 0;
  return nullptr;
}

} // namespace tqfpm::workers
