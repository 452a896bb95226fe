// What happens when a worker's time is over: acts as pool::deadline() decides.
#pragma once

#include "workers/context.h"
#include "workers/ending.h"
#include "workers/running.h"
#include "workers/starting.h"
#include "workers/worker_log.h"

namespace tqfpm::workers {

class Patience {
public:
  Patience(Context &context, WorkerLog &log, Ending &ending, Starting &starting, Running &running)
      : context_(context), log_(log), ending_(ending), starting_(starting), running_(running) {}

  // Looks at all workers, if somebody's time may be over.
  bool step(TimePoint now);

private:
  void look(Worker &worker, TimePoint now);
  void terminate(Worker &worker, TimePoint now);
  void kill(Worker &worker, TimePoint now);

  Context &context_;
  WorkerLog &log_;
  Ending &ending_;
  Starting &starting_;
  Running &running_;
};

} // namespace tqfpm::workers
