#include "config/diff.h"

#include <algorithm>

namespace tqfpm::config {

namespace {

const PoolConfig *find(const Config &config, const std::string &name) {
  const auto found =
      std::find_if(config.pools.begin(), config.pools.end(), [&](const PoolConfig &p) { return p.name == name; });
  return found == config.pools.end() ? nullptr : &*found;
}

void add(std::vector<Change> &changes, const std::string &pool, const Row &row, std::string before, std::string after) {
  if (before != after)
    changes.push_back(Change{pool, row.name, std::move(before), std::move(after)});
}

} // namespace

std::vector<Change> diff(const Config &before, const Config &after) {
  std::vector<Change> changes;
  for (const Row &row : table()) {
    if (row.scope == Scope::kGlobal)
      add(changes, "", row, row.print_global(before.global), row.print_global(after.global));
  }
  for (const PoolConfig &pool : before.pools) {
    const PoolConfig *other = find(after, pool.name);
    if (other == nullptr) {
      changes.push_back(Change{pool.name, "", pool.name, ""});
      continue;
    }
    for (const Row &row : table()) {
      if (row.scope == Scope::kPool)
        add(changes, pool.name, row, row.print_pool(pool), row.print_pool(*other));
    }
  }
  for (const PoolConfig &pool : after.pools) {
    if (find(before, pool.name) == nullptr)
      changes.push_back(Change{pool.name, "", "", pool.name});
  }
  return changes;
}

} // namespace tqfpm::config
