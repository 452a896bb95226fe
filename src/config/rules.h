// What must be true between directives, and defaults that depend on others.
#pragma once

#include "config/load.h"

namespace tqfpm::config {

// Adds messages to `result` and fills in dependent defaults.
void apply_rules(LoadResult &result);

} // namespace tqfpm::config
