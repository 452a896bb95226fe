#include "status/pool_fields.h"

namespace tqfpm::status {

namespace {

std::string or_dash(const std::string &text) {
  return text.empty() ? "-" : text;
}

// While a request runs what is known of the last one is shown as 0.
bool is_idle(const WorkerView &worker) {
  return std::string_view(worker.state) == "Idle";
}

struct WorkerField {
  const char *page;   // null: not there
  const char *script; // in fpm_get_status(); null: not there
  FieldValue (*value)(const WorkerView &worker);
};
constexpr WorkerField kWorkerFields[] = {
    {"pid", "pid", [](const WorkerView &w) -> FieldValue { return static_cast<std::uint64_t>(w.pid); }},
    {"state", "state", [](const WorkerView &w) -> FieldValue { return std::string(w.state); }},
    {"start time", "start-time", [](const WorkerView &w) -> FieldValue { return Moment{w.start_time}; }},
    {"start since", "start-since", [](const WorkerView &w) -> FieldValue { return w.start_since; }},
    {"requests", "requests", [](const WorkerView &w) -> FieldValue { return w.requests; }},
    {"request duration", "request-duration", [](const WorkerView &w) -> FieldValue { return w.duration_us; }},
    {"request method", "request-method", [](const WorkerView &w) -> FieldValue { return or_dash(w.method); }},
    {"request uri", nullptr,
     [](const WorkerView &w) -> FieldValue { return Uri{or_dash(w.uri + (w.query.empty() ? "" : "?") + w.query)}; }},
    {nullptr, "request-uri", [](const WorkerView &w) -> FieldValue { return w.uri; }},
    {nullptr, "query-string", [](const WorkerView &w) -> FieldValue { return w.query; }},
    {"content length", "request-length", [](const WorkerView &w) -> FieldValue { return w.content_length; }},
    {"user", "user", [](const WorkerView &w) -> FieldValue { return or_dash(w.user); }},
    {"script", "script", [](const WorkerView &w) -> FieldValue { return or_dash(w.script); }},
    {"last request cpu", "last-request-cpu",
     [](const WorkerView &w) -> FieldValue { return is_idle(w) ? w.cpu_percent : 0.; }},
    {"last request memory", "last-request-memory",
     [](const WorkerView &w) -> FieldValue { return is_idle(w) ? w.memory : 0; }},
};

std::vector<Field> fields_of(const WorkerView &worker, const char *WorkerField::*name) {
  std::vector<Field> fields;
  for (const WorkerField &each : kWorkerFields) {
    if (each.*name != nullptr)
      fields.push_back({each.*name, each.value(worker)});
  }
  return fields;
}

} // namespace

std::vector<Field> pool_fields(const PoolState &s) {
  return {
      {"pool", s.pool},
      {"process manager", s.manager},
      {"start time", Moment{s.start_time}},
      {"start since", s.start_since, "start_since", "counter", "The number of seconds since FPM has started."},
      {"accepted conn", s.accepted, "accepted_connections", "counter", "The number of requests accepted by the pool."},
      {"listen queue", s.queue, "listen_queue", "gauge", "The number of requests in the queue of pending connections."},
      {"max listen queue", s.max_queue, "max_listen_queue", "counter",
       "The maximum number of requests in the queue of pending connections since FPM has started."},
      {"listen queue len", s.queue_size, "listen_queue_length", "gauge",
       "The size of the socket queue of pending connections."},
      {"idle processes", s.idle, "idle_processes", "gauge", "The number of idle processes."},
      {"active processes", s.active, "active_processes", "gauge", "The number of active processes."},
      {"total processes", s.total, "total_processes", "gauge", "The number of idle + active processes."},
      {"max active processes", s.max_active, "max_active_processes", "counter",
       "The maximum number of active processes since FPM has started."},
      {"max children reached", s.max_children_reached, "max_children_reached", "counter",
       "The number of times, the process limit has been reached, when pm tries to start more children (works only for "
       "pm 'dynamic' and 'ondemand')."},
      {"slow requests", s.slow_requests, "slow_requests", "counter",
       "The number of requests that exceeded your 'request_slowlog_timeout' value."},
  };
}

std::vector<Field> worker_fields(const WorkerView &worker) {
  return fields_of(worker, &WorkerField::page);
}

std::vector<Field> worker_status_fields(const WorkerView &worker) {
  return fields_of(worker, &WorkerField::script);
}

std::string joined_words(std::string_view name, char separator) {
  std::string out(name);
  for (char &c : out)
    c = c == '_' || c == ' ' ? separator : c;
  return out;
}

} // namespace tqfpm::status
