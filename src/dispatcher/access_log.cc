#include "dispatcher/access_log.h"

#include <unistd.h>

#include <algorithm>
#include <ctime>

#include "dispatcher/client.h"
#include "dispatcher/local_pages.h"

namespace tqfpm::dispatcher {

namespace {

// access.suppress_path: successful GET and HEAD without query and body, of exactly these paths.
bool suppressed(const config::PoolConfig &pool, const Request &request) {
  if (pool.access_suppress_path.empty() || request.status / 100 != 2 || request.body_received > 0 ||
      request.body_expected > 0 || !request.params.get("QUERY_STRING").empty())
    return false;
  const std::string_view method = request.params.get("REQUEST_METHOD");
  if (method != "GET" && method != "HEAD")
    return false;
  return std::find(pool.access_suppress_path.begin(), pool.access_suppress_path.end(), request_path(request)) !=
         pool.access_suppress_path.end();
}

} // namespace

void log_access(sys::LogSink &sink, const status::AccessFormat &format, const config::PoolConfig &pool,
                const Request &request) {
  if (suppressed(pool, request))
    return;
  const TimePoint now = Clock::now();
  const TimePoint start = request.started != TimePoint{} ? request.started : request.received;
  const std::string user = request_user(request);
  status::AccessRecord record;
  record.method = request.params.get("REQUEST_METHOD");
  record.uri = request_path(request);
  record.query = request.params.get("QUERY_STRING");
  record.script = request.params.get("SCRIPT_FILENAME");
  record.user = user;
  record.peer = request.client->peer();
  record.pool = pool.name;
  record.pid = request.worker_pid > 0 ? request.worker_pid : ::getpid();
  record.parent_pid = request.worker_pid > 0 ? ::getpid() : ::getppid();
  record.status = request.status;
  record.content_length = request.body_expected;
  record.seconds = std::chrono::duration<double>(now - start).count();
  record.end = std::time(nullptr);
  record.start = record.end - static_cast<std::time_t>(record.seconds);
  record.param = [&request](std::string_view name) { return request.params.find(name); };
  record.head = request.head;
  record.tag = request.tag;
  const auto in_seconds = [](Duration time) { return std::chrono::duration<double>(time).count(); };
  if (request.submitted != TimePoint{})
    record.queue_seconds = in_seconds((request.started != TimePoint{} ? start : now) - request.submitted);
  if (request.first_byte != TimePoint{})
    record.first_byte_seconds = in_seconds(request.first_byte - start);
  if (request.worker_age != Duration::zero())
    record.worker_age_seconds = in_seconds(request.worker_age);
  record.reason = request.reason;
  record.cpu_percent = request.cpu_percent;
  record.user_percent = request.user_percent;
  record.system_percent = request.system_percent;
  record.memory = request.memory;
  sink.write(format.line(record) + "\n");
}

} // namespace tqfpm::dispatcher
