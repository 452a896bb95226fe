// A configuration as INI text that loads again to the same configuration.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "config/types.h"

namespace tqfpm::config {

std::string dump(const Config &config);                              // all of it: -tt into a file
std::string dump_pool(const Config &config, const PoolConfig &pool); // [global] and one pool: for its dispatcher
// The lines that php-fpm's -tt writes into the log: values without quotes, "undefined" where there is none, error
// levels as numbers (`e_all`: E_ALL's value in a pool's PHP), flags as values.
std::vector<std::string> dump_for_log(const Config &config,
                                      const std::function<std::int64_t(const PoolConfig &)> &e_all);

} // namespace tqfpm::config
