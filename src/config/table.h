// The rows of directives.def as data.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "config/types.h"

namespace tqfpm::config {

enum class Scope : std::uint8_t { kGlobal, kPool };
enum class State : std::uint8_t { kWorks, kNowhere };
enum class Origin : std::uint8_t { kFpm, kOwn };

// A directive of php-fpm's beside php-fpm's own.
struct Difference {
  enum class Kind : std::uint8_t { kSame, kBetter, kDifferent };
  Kind kind = Kind::kSame;
  const char *why = "";
};
constexpr Difference better(const char *why) {
  return {Difference::Kind::kBetter, why};
}
constexpr Difference different(const char *why) {
  return {Difference::Kind::kDifferent, why};
}

// What a row says, see directives.def.
struct Directive {
  const char *by_default = "";
  Range range{};
  Origin origin = Origin::kFpm;
  State state = State::kWorks;
  const char *doc = "";
  Difference difference{};
  const char *example = "";
  const char *see_also = "";
};

struct Row : Directive {
  Scope scope;
  const char *name;
  const char *words; // what a value looks like
  bool array;        // takes [...]
  // One of each pair is set, by scope. set_*: an error text or "". print_*: INI lines.
  std::string (*set_global)(GlobalConfig &, const Entry &, const Range &);
  std::string (*set_pool)(PoolConfig &, const Entry &, const Range &);
  std::string (*print_global)(const GlobalConfig &);
  std::string (*print_pool)(const PoolConfig &);
  // Text fields, for $pool, $prefix and relative paths; null for other types.
  void (*edit_pool)(PoolConfig &, std::string (*edit)(const std::string &text, bool is_path, const PoolConfig &));
};

const std::vector<Row> &table();
// nullptr: there is no such directive in that scope.
const Row *find_row(Scope scope, std::string_view name);
// The name that was most likely meant; "" if none is near.
std::string nearest_name(Scope scope, const std::string &name);

GlobalConfig default_global();
PoolConfig default_pool(const std::string &name);

} // namespace tqfpm::config
