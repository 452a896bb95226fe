// The status page in php-fpm's formats: text, html, xml, json, openmetrics. Pure: a state in, bytes out.
#pragma once

#include <cstdint>
#include <ctime>
#include <string>
#include <string_view>
#include <vector>

namespace tqfpm::status {

// One worker, as `?full` shows it.
struct WorkerView {
  int pid = 0;
  const char *state = "Idle"; // Idle, Running, Finishing, Ending, Getting request informations (starting)
  std::time_t start_time = 0;
  std::uint64_t start_since = 0; // seconds
  std::uint64_t requests = 0;
  std::uint64_t duration_us = 0;         // of the request at hand, or of the last one
  std::string method, uri, script, user; // of the request at hand, or of the last one
  std::uint64_t content_length = 0;
};

// What the status page shows, taken at one moment.
struct PoolState {
  std::string pool;
  std::string manager;
  std::time_t start_time = 0;
  std::uint64_t start_since = 0; // seconds
  std::uint64_t accepted = 0;
  std::uint64_t queue = 0, max_queue = 0, queue_size = 0;
  std::uint64_t idle = 0, active = 0, total = 0, max_active = 0;
  std::uint64_t max_children_reached = 0, slow_requests = 0;
  std::vector<WorkerView> workers; // with `full`
};

// A rendered page.
struct Page {
  std::string content_type;
  std::string body;
};

// `query` is the request's query string: json, html, xml, openmetrics and full, in any combination and order.
Page render_status(const PoolState &state, std::string_view query);
// Does `query` ask for the workers?
bool wants_workers(std::string_view query);

} // namespace tqfpm::status
