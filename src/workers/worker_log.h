// What workers write, in the log. What belongs to a request is there before its client has the end of the answer.
#pragma once

#include <string>
#include <string_view>

#include "base/result.h"
#include "config/types.h"
#include "sys/event_loop.h"
#include "workers/roster.h"
#include "workers/worker.h"

namespace tqfpm::workers {

class WorkerLog {
public:
  WorkerLog(sys::EventLoop &loop, const config::PoolConfig &pool, const config::GlobalConfig &global, Roster &roster)
      : loop_(loop), pool_(pool), global_(global), roster_(roster) {}

  struct Ends { // what the worker writes to
    sys::Fd out, err;
  };
  Result<Ends> make(Worker &worker);
  // If there is something noted.
  void drain(Worker &worker, TimePoint now);
  // The end of a request, or with `at_end` of the worker: takes what is there; a partial line is a line.
  void finish(Worker &worker, TimePoint now, bool at_end);
  // What PHP has logged by way of its connection when nobody listened there any more.
  void muttered(Worker &worker, std::string_view text, TimePoint now);
  // Says how many lines were suppressed, if that is due.
  void tell_suppressed(Worker &worker, TimePoint now, bool at_end);

private:
  void line(Worker &worker, const char *stream, const std::string &text, TimePoint now) const;
  void take(Worker &worker, bool flush, TimePoint now);

  sys::EventLoop &loop_;
  const config::PoolConfig &pool_;
  const config::GlobalConfig &global_;
  Roster &roster_;
};

} // namespace tqfpm::workers
