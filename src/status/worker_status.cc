#include "status/worker_status.h"

namespace tqfpm::status {

namespace {

template <typename T> void append_raw(std::string &out, const T &value) {
  out.append(reinterpret_cast<const char *>(&value), sizeof value);
}

void item(std::string &out, char type, std::string_view key) {
  out += type;
  out += static_cast<char>(key.size());
  out += key;
}

void integer(std::string &out, std::string_view key, std::uint64_t value) {
  item(out, 'i', key);
  append_raw(out, static_cast<std::int64_t>(value));
}

void number(std::string &out, std::string_view key, double value) {
  item(out, 'd', key);
  append_raw(out, value);
}

void text(std::string &out, std::string_view key, std::string_view value) {
  item(out, 's', key);
  append_raw(out, static_cast<std::uint32_t>(value.size()));
  out += value;
}

std::string_view or_dash(const std::string &value) {
  return value.empty() ? std::string_view("-") : value;
}

void worker(std::string &out, const WorkerView &view) {
  out += 'm';
  integer(out, "pid", static_cast<std::uint64_t>(view.pid));
  text(out, "state", view.state);
  integer(out, "start-time", static_cast<std::uint64_t>(view.start_time));
  integer(out, "start-since", view.start_since);
  integer(out, "requests", view.requests);
  integer(out, "request-duration", view.duration_us);
  text(out, "request-method", or_dash(view.method));
  text(out, "request-uri", view.uri);
  text(out, "query-string", view.query);
  integer(out, "request-length", view.content_length);
  text(out, "user", or_dash(view.user));
  text(out, "script", or_dash(view.script));
  const bool idle = std::string_view(view.state) == "Idle";
  number(out, "last-request-cpu", idle ? view.cpu_percent : 0);
  integer(out, "last-request-memory", idle ? view.memory : 0);
  out += '\0';
}

} // namespace

std::string fpm_status(const PoolState &state) {
  std::string out;
  text(out, "pool", state.pool);
  text(out, "process-manager", state.manager);
  integer(out, "start-time", static_cast<std::uint64_t>(state.start_time));
  integer(out, "start-since", state.start_since);
  integer(out, "accepted-conn", state.accepted);
  integer(out, "listen-queue", state.queue);
  integer(out, "max-listen-queue", state.max_queue);
  integer(out, "listen-queue-len", state.queue_size);
  integer(out, "idle-processes", state.idle);
  integer(out, "active-processes", state.active);
  integer(out, "total-processes", state.total);
  integer(out, "max-active-processes", state.max_active);
  integer(out, "max-children-reached", state.max_children_reached);
  integer(out, "slow-requests", state.slow_requests);
  item(out, 'l', "procs");
  for (const WorkerView &view : state.workers)
    worker(out, view);
  out += '\0';
  out += '\0';
  return out;
}

} // namespace tqfpm::status
