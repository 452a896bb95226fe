// php-fpm's fields of a pool and of its workers, each once: the status page in all formats and fpm_get_status() come
// from these tables, in php-fpm's order.
#pragma once

#include <cstdint>
#include <ctime>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "status/render.h"

namespace tqfpm::status {

struct Moment { // text for people, a number for programs
  std::time_t when;
};
struct Uri { // PHP's own way of escaping is seen in it
  std::string text;
};
using FieldValue = std::variant<std::string, std::uint64_t, double, Moment, Uri>;

struct Field {
  std::string name; // of several words: with ' ' on the page
  FieldValue value;
  // OpenMetrics; "" for what is none.
  std::string_view metric = {};
  std::string_view type = {}; // counter, gauge
  std::string_view help = {};
};
std::vector<Field> pool_fields(const PoolState &pool);
// As the page shows a worker.
std::vector<Field> worker_fields(const WorkerView &worker);
// As fpm_get_status() does, whose names are others here and there.
std::vector<Field> worker_status_fields(const WorkerView &worker);

// `name` with `separator` between its words.
std::string joined_words(std::string_view name, char separator);

} // namespace tqfpm::status
