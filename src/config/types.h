// A loaded configuration.
#pragma once

#include <string>
#include <vector>

#include "config/codec.h"

namespace tqfpm::config {

struct GlobalConfig {
#define GLOBAL(name, field, type, ...) codec::type::Value field{};
#define POOL(...)
#include "config/directives.def"
#undef GLOBAL
#undef POOL
  bool operator==(const GlobalConfig &) const = default;
};

struct PoolConfig {
  std::string name;
  Location where{}; // of its first section
#define GLOBAL(...)
#define POOL(name, field, type, ...) codec::type::Value field{};
#include "config/directives.def"
#undef GLOBAL
#undef POOL
  bool operator==(const PoolConfig &) const = default;
};

struct Config {
  GlobalConfig global;
  std::vector<PoolConfig> pools; // in order of first appearance
  bool operator==(const Config &) const = default;
};

} // namespace tqfpm::config
