#include "dispatcher/measure.h"

#include "dispatcher/backend.h"
#include "dispatcher/local_pages.h"
#include "sys/process_stats.h"

namespace tqfpm::dispatcher {

namespace {

double percent(Duration used, Duration of) {
  return of > Duration::zero() ? 100. * double(used.count()) / double(of.count()) : 0.;
}

// Assigning keeps the strings' memory: a busy worker's view costs no allocation.
void describe(status::WorkerView &view, const Request &request, Duration took) {
  view.duration_us = static_cast<std::uint64_t>(std::chrono::duration_cast<microseconds>(took).count());
  view.method = request.params.get("REQUEST_METHOD");
  view.uri = request_path(request);
  view.query = request.params.get("QUERY_STRING");
  view.script = request.params.get("SCRIPT_FILENAME");
  view.user = request_user(request);
  view.content_length = request.body_expected;
}

} // namespace

void measure_start(Backend &backend, const Measures &measures) {
  if (measures.cpu)
    backend.usage.cpu_before = sys::cpu_time(backend.pid).value_or(Duration::zero());
  if (measures.times && backend.served == 0) {
    const auto times = sys::cpu_times(backend.pid).value_or(sys::CpuTimes{});
    backend.usage.user_before = times.user;
    backend.usage.system_before = times.system;
  }
}

void measure_end(Backend &backend, Request &request, const Measures &measures) {
  const Duration took = Clock::now() - request.started;
  WorkerUsage &usage = backend.usage;
  if (measures.cpu) {
    if (const auto now = sys::cpu_time(backend.pid))
      request.cpu_percent = percent(*now - usage.cpu_before, took);
  }
  if (measures.times) {
    if (const auto now = sys::cpu_times(backend.pid)) {
      request.user_percent = percent(now->user - usage.user_before, took);
      request.system_percent = percent(now->system - usage.system_before, took);
      usage.user_before = now->user;
      usage.system_before = now->system;
    }
  }
  if (measures.memory)
    request.memory = sys::peak_memory(backend.pid);
  request.worker_age = Clock::now() - backend.spawned();
  if (measures.last) {
    describe(usage.last, request, took);
    usage.last.cpu_percent = request.cpu_percent;
  }
}

status::WorkerView view_of(Backend &backend, const char *state, TimePoint now, std::time_t wall, bool look) {
  if (look)
    backend.usage.last.memory = sys::peak_memory(backend.pid);
  status::WorkerView view = backend.usage.last;
  view.pid = backend.pid;
  view.state = state;
  view.start_since = static_cast<std::uint64_t>(std::chrono::duration_cast<seconds>(now - backend.spawned()).count());
  view.start_time = wall - static_cast<std::time_t>(view.start_since);
  view.requests = backend.served + (backend.working() ? 1 : 0); // php-fpm counts a request when it begins
  if (const Request *request = backend.request())
    describe(view, *request, now - request->started);
  return view;
}

} // namespace tqfpm::dispatcher
