// A configuration as INI text that loads again to the same configuration.
#pragma once

#include <string>

#include "config/types.h"

namespace tqfpm::config {

std::string dump(const Config &config);                              // all of it: -tt
std::string dump_pool(const Config &config, const PoolConfig &pool); // [global] and one pool: for its dispatcher

} // namespace tqfpm::config
