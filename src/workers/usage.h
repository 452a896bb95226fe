// What a worker has used for a request, and what the status page shows of workers. Only what somebody asks for is
// measured.
#pragma once

#include <ctime>

#include "base/clock.h"
#include "pool/request.h"
#include "status/render.h"

namespace tqfpm::workers {

struct Worker;

struct Measures {
  bool cpu = false;    // one system call at the start and the end of a request
  bool times = false;  // user and system time apart: /proc is read at the end of a request
  bool memory = false; // /proc is read at the end of a request
  bool last = false;   // the last request of each worker is remembered for the status page
};

// Kept for each worker.
struct WorkerUsage {
  Duration cpu_before{};    // when the request at hand began
  Duration user_before{};   // when the last request ended: an idle worker uses none
  Duration system_before{}; //
  status::WorkerView last;  // what the page shows of the last request
};

void measure_start(Worker &worker, const Measures &measures);
// Fills in the request's usage.
void measure_end(Worker &worker, pool::Request &request, const Measures &measures, TimePoint now);
// With `look` its memory is read from /proc, which is a matter of 20 microseconds; without it is what it was.
status::WorkerView view_of(Worker &worker, const char *state, TimePoint now, std::time_t wall, bool look);

} // namespace tqfpm::workers
