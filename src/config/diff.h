// What has changed between two configurations.
#pragma once

#include <string>
#include <vector>

#include "config/table.h"

namespace tqfpm::config {

struct Change {
  std::string pool;      // "" for [global]
  std::string directive; // "" with a pool that is new or gone
  std::string before;    // as INI; "" if unset
  std::string after;
};
std::vector<Change> diff(const Config &before, const Config &after);

} // namespace tqfpm::config
