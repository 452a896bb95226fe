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
  status::AccessRecord record;
  record.method = request.params.get("REQUEST_METHOD");
  record.uri = request_path(request);
  record.query = request.params.get("QUERY_STRING");
  record.script = request.params.get("SCRIPT_FILENAME");
  record.user = request.params.get("REMOTE_USER");
  record.peer = request.client->peer();
  record.pool = pool.name;
  record.pid = request.worker_pid;
  record.parent_pid = ::getpid();
  record.status = request.status;
  record.content_length = request.body_expected;
  record.seconds = std::chrono::duration<double>(now - start).count();
  record.end = std::time(nullptr);
  record.start = record.end - static_cast<std::time_t>(record.seconds);
  record.param = [&request](std::string_view name) { return request.params.get(name); };
  record.tag = request.tag;
  record.queue_seconds = std::chrono::duration<double>(start - request.submitted).count();
  record.reason = request.reason;
  sink.write(format.line(record) + "\n");
}

} // namespace tqfpm::dispatcher
