// All workers, by slot: who is there, what each is doing, who has something to do.
#pragma once

#include <cstddef>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "pool/deadlines.h"
#include "pool/worker_table.h"
#include "sys/event_loop.h"
#include "workers/worker.h"

namespace tqfpm::workers {

class Roster {
public:
  // `slots`: workers at most.
  Roster(sys::EventLoop &loop, std::size_t slots, const pool::Deadlines &deadlines);

  // A worker in a free slot, kStarting; nullptr: all are in use.
  Worker *add(pool::VariantNumber variant, TimePoint now);
  // It has gone. Destroyed by sweep().
  void remove(Worker &worker);
  void sweep() { removed_.clear(); }

  [[nodiscard]] Worker *find(pool::WorkerId id) const;
  // For all of them: `index` < slots().
  [[nodiscard]] Worker *at(std::size_t index) const { return workers_[index].get(); }
  [[nodiscard]] std::size_t slots() const { return workers_.size(); }
  [[nodiscard]] const pool::WorkerTable &table() const { return table_; }
  [[nodiscard]] pool::WorkerState state(const Worker &worker) const { return table_.state(worker.id); }
  [[nodiscard]] pool::VariantNumber variant(const Worker &worker) const { return table_.variant(worker.id); }
  // A new state, and when it has to be looked at for that.
  void set(Worker &worker, pool::WorkerState state, TimePoint now);

  // It has something to do in the round.
  void note(pool::WorkerId id);
  // The next one that has.
  Worker *next_noted();

  // When somebody's time is over.
  [[nodiscard]] pool::Deadline deadline(const Worker &worker, TimePoint now) const;
  void look_at(TimePoint when) { timer_.no_later_than(when); }
  [[nodiscard]] bool take_due() { return std::exchange(due_, false); }

private:
  const pool::Deadlines &deadlines_;
  pool::WorkerTable table_;
  std::vector<std::unique_ptr<Worker>> workers_; // by slot
  std::vector<std::unique_ptr<Worker>> removed_; // until the end of the round
  std::vector<pool::WorkerId> noted_;            // from next_ on
  std::size_t next_ = 0;
  bool due_ = false;
  sys::TimerWatch timer_;
};

} // namespace tqfpm::workers
