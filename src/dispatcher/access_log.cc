#include "dispatcher/access_log.h"

#include <unistd.h>

#include <algorithm>
#include <ctime>

#include "dispatcher/pool_status.h"
#include "php/basic_user.h"
#include "sys/log.h"

namespace tqfpm::dispatcher {

namespace {

status::AccessFormat compile(const config::PoolConfig &pool) {
  auto format = status::AccessFormat::compile(pool.access_format);
  TQFPM_ASSERT(format.ok()); // checked when the configuration was loaded
  return std::move(format.value());
}

} // namespace

AccessLog::AccessLog(sys::EventLoop &loop, const config::PoolConfig &pool, status::Scoreboard &board)
    : pool_(pool), format_(compile(pool)) {
  sink_.attach(loop);
  sink_.on_lost([&pool, &board](std::uint64_t lines) {
    board.add(status::Metric::log_lines_lost, lines);
    sys::log().warning("[pool {}] {} lines of access.log were lost, it could not be written", pool.name, lines);
  });
}

AccessLog::~AccessLog() {
  sink_.detach();
  sink_.finish(seconds(1));
}

// access.suppress_path: successful GET and HEAD without query and body, of exactly these paths.
bool AccessLog::suppressed(const pool::Request &request) const {
  if (pool_.access_suppress_path.empty() || request.status / 100 != 2 || request.body_received > 0 ||
      request.body_expected > 0 || !request.params.get("QUERY_STRING").empty())
    return false;
  const std::string_view method = request.params.get("REQUEST_METHOD");
  if (method != "GET" && method != "HEAD")
    return false;
  return std::find(pool_.access_suppress_path.begin(), pool_.access_suppress_path.end(), request_path(request)) !=
         pool_.access_suppress_path.end();
}

void AccessLog::write(const pool::Request &request, TimePoint now) {
  if (!sink_.valid() || suppressed(request))
    return;
  const TimePoint start = request.started != TimePoint{} ? request.started : request.received;
  const std::string user = php::basic_user(request.params.get("HTTP_AUTHORIZATION"));
  status::AccessRecord record;
  record.method = request.params.get("REQUEST_METHOD");
  record.uri = request_path(request);
  record.query = request.params.get("QUERY_STRING");
  record.script = request.params.get("SCRIPT_FILENAME");
  record.user = user;
  record.peer = request.peer;
  record.pool = pool_.name;
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
  sink_.write(format_.line(record) + "\n");
}

} // namespace tqfpm::dispatcher
