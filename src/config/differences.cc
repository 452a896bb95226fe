#include "config/differences.h"

#include <algorithm>

namespace tqfpm::config {

const std::vector<Comparison> &comparisons() {
  static const std::vector<Comparison> rows = {
#define DIFFERENCE(scope, name, kind, why) {Scope::scope, name, Difference::kind, why},
#include "config/differences.def"
#undef DIFFERENCE
  };
  return rows;
}

Comparison compare(const Row &row) {
  const auto found = std::find_if(comparisons().begin(), comparisons().end(), [&row](const Comparison &each) {
    return each.scope == row.scope && each.name == row.name;
  });
  if (row.state == State::kAccepted)
    return {row.scope, row.name, Difference::kDifferent, "Accepted, no effect yet."};
  return found == comparisons().end() ? Comparison{row.scope, row.name, Difference::kSame, ""} : *found;
}

const char *word_of(Difference kind) {
  switch (kind) {
  case Difference::kSame:
    return "same";
  case Difference::kBetter:
    return "better";
  case Difference::kDifferent:
    return "different";
  }
  return "same";
}

} // namespace tqfpm::config
