#include "workers/usage.h"

#include "php/request_facts.h"
#include "sys/proc_info.h"
#include "workers/worker.h"

namespace tqfpm::workers {

namespace {

double percent(Duration used, Duration of) {
  return of > Duration::zero() ? 100. * double(used.count()) / double(of.count()) : 0.;
}

// Assigning keeps the strings' memory: a busy worker's view costs no allocation.
void describe(status::WorkerView &view, const pool::Request &request, Duration took) {
  view.duration_us = static_cast<std::uint64_t>(std::chrono::duration_cast<microseconds>(took).count());
  view.method = request.params.get("REQUEST_METHOD");
  view.uri = php::request_path(request.params);
  view.query = request.params.get("QUERY_STRING");
  view.script = request.params.get("SCRIPT_FILENAME");
  view.user = php::request_user(request.params);
  view.content_length = request.body_expected;
}

} // namespace

void measure_start(Worker &worker, const Measures &measures) {
  if (measures.cpu)
    worker.usage.cpu_before = sys::cpu_time(worker.pid).value_or(Duration::zero());
  if (measures.times && worker.served == 0) {
    const auto times = sys::cpu_times(worker.pid).value_or(sys::CpuTimes{});
    worker.usage.user_before = times.user;
    worker.usage.system_before = times.system;
  }
}

void measure_end(Worker &worker, pool::Request &request, const Measures &measures, TimePoint now) {
  const Duration took = now - request.started;
  WorkerUsage &usage = worker.usage;
  if (measures.cpu) {
    if (const auto used = sys::cpu_time(worker.pid))
      request.cpu_percent = percent(*used - usage.cpu_before, took);
  }
  if (measures.times) {
    if (const auto used = sys::cpu_times(worker.pid)) {
      request.user_percent = percent(used->user - usage.user_before, took);
      request.system_percent = percent(used->system - usage.system_before, took);
      usage.user_before = used->user;
      usage.system_before = used->system;
    }
  }
  if (measures.memory)
    request.memory = sys::peak_memory(worker.pid);
  request.worker_age = now - worker.life.spawned;
  if (measures.last) {
    describe(usage.last, request, took);
    usage.last.cpu_percent = request.cpu_percent;
  }
}

status::WorkerView view_of(Worker &worker, const char *state, TimePoint now, std::time_t wall, bool look) {
  if (look)
    worker.usage.last.memory = sys::peak_memory(worker.pid);
  status::WorkerView view = worker.usage.last;
  view.pid = worker.pid;
  view.state = state;
  view.start_since = static_cast<std::uint64_t>(std::chrono::duration_cast<seconds>(now - worker.life.spawned).count());
  view.start_time = wall - static_cast<std::time_t>(view.start_since);
  const bool at_work = worker.task.request != nullptr || worker.working();
  view.requests = worker.served + (at_work ? 1 : 0); // php-fpm counts a request when it begins
  if (const pool::Request *request = worker.task.request)
    describe(view, *request, now - request->started);
  return view;
}

} // namespace tqfpm::workers
