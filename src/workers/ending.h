// How workers end: by order, by a signal of ours or by themselves.
#pragma once

#include <string>
#include <utility>

#include "pool/fault_window.h"
#include "workers/context.h"
#include "workers/worker_log.h"

namespace tqfpm::workers {

class Ending {
public:
  Ending(Context &context, WorkerLog &log);

  // Tells a worker without a request to end, in order.
  void stop(Worker &worker, status::Metric why, TimePoint now);
  // ... all idle ones of a variant.
  void stop_idle(pool::VariantNumber variant, status::Metric why, TimePoint now);
  // SIGKILL. What it has answered until now is still read.
  void kill(Worker &worker, status::Metric why, TimePoint now);
  void signal(const Worker &worker, int number);
  // It has sent what no worker sends: it is killed.
  void misbehaved(Worker &worker, const std::string &what, TimePoint now);

  // Its process has ended; what it has written is read next.
  void ended(Worker &worker, int status, TimePoint now);
  // All that is known: its request is lost if it still has one, and it goes.
  void conclude(Worker &worker, TimePoint now);
  // The worker goes without more words. It has no request.
  void retire(Worker &worker, TimePoint now);

  // process.kill_descendants: what nobody knows is what a script has left whose worker has ended.
  void kill_orphans();
  // A worker has come up: it is known by its pid now.
  void others_known() {
    if (orphans_wait_)
      kill_orphans();
  }
  // A worker has died that nobody had told to: the next that starts takes its place, which is worth a NOTICE.
  [[nodiscard]] bool take_replacing() { return std::exchange(replacing_, false); }

private:
  void log_end(const Worker &worker, int status, TimePoint now) const;
  void count_fault(const Worker &worker, int status, TimePoint now);
  [[nodiscard]] bool all_known() const;

  Context &context_;
  WorkerLog &log_;
  pool::FaultWindow faults_;
  bool replacing_ = false;
  bool orphans_wait_ = false; // to be killed as soon as all children are known
};

} // namespace tqfpm::workers
