// The status page in php-fpm's formats: text, html, xml, json, openmetrics. Pure: a state in, bytes out.
//
// What php-fpm's page has is byte for byte as there. tqfpm's own fields follow it in text, in openmetrics stand before
// it, and in the other formats come with `full` only, where nothing that reads php-fpm's page can trip over them.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <ctime>
#include <string>
#include <string_view>
#include <vector>

#include "status/scoreboard.h"

namespace tqfpm::status {

// One worker, as `?full` shows it.
struct WorkerView {
  int pid = 0;
  const char *state = "Idle"; // Idle, Running, Finishing, Ending, Starting
  std::time_t start_time = 0;
  std::uint64_t start_since = 0; // seconds
  std::uint64_t requests = 0;
  // Of the request at hand, or of the last one:
  std::uint64_t duration_us = 0;
  std::string method, uri, query, script, user;
  std::uint64_t content_length = 0;
  // Of the last one; while a request runs both are shown as 0.
  double cpu_percent = 0;
  std::uint64_t memory = 0; // most that the worker ever had resident, in bytes
};

using MetricValues = std::array<std::uint64_t, static_cast<std::size_t>(Metric::kCount)>;

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
  std::string version;             // of tqfpm
  MetricValues metrics{};          // the rows of counters.def
};

// A rendered page.
struct Page {
  std::string content_type; // a whole header line
  std::string body;
};

// `query` is the request's query string: json, html, xml, openmetrics and full, in any combination and order.
Page render_status(const PoolState &state, std::string_view query);
// Does `query` ask for the workers?
bool wants_workers(std::string_view query);

// Text for markup: what means something there is escaped, what is no UTF-8 or no character for a page is replaced.
std::string escape_markup(std::string_view text);
// A JSON string with its quotes as PHP writes it: "/" and everything beyond ASCII escaped, what is no UTF-8 left out.
std::string php_json_string(std::string_view text);

} // namespace tqfpm::status
