#include "config/dump.h"

#include "config/table.h"

namespace tqfpm::config {

namespace {

std::string dump_global(const GlobalConfig &global) {
  std::string out = "[global]\n";
  for (const Row &row : table()) {
    if (row.scope == Scope::kGlobal)
      out += row.print_global(global);
  }
  return out;
}

std::string dump_section(const PoolConfig &pool) {
  std::string out = "\n[" + pool.name + "]\n";
  for (const Row &row : table()) {
    if (row.scope == Scope::kPool)
      out += row.print_pool(pool);
  }
  return out;
}

} // namespace

std::string dump(const Config &config) {
  std::string out = dump_global(config.global);
  for (const PoolConfig &pool : config.pools)
    out += dump_section(pool);
  return out;
}

std::string dump_pool(const Config &config, const PoolConfig &pool) {
  return dump_global(config.global) + dump_section(pool);
}

} // namespace tqfpm::config
