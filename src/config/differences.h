// The rows of differences.def as data.
#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

#include "config/table.h"

namespace tqfpm::config {

enum class Difference : std::uint8_t { kSame, kBetter, kDifferent };
struct Comparison {
  Scope scope;
  std::string_view name;
  Difference kind;
  std::string_view why;
};
const std::vector<Comparison> &comparisons();
// A directive of php-fpm's beside php-fpm's own.
Comparison compare(const Row &row);
const char *word_of(Difference kind);

} // namespace tqfpm::config
