#include "config/dump.h"

#include <algorithm>

#include "base/text.h"
#include "config/table.h"
#include "php/constants.h"

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

std::string unquoted(std::string_view value) {
  if (value.size() < 2 || value.front() != '"')
    return std::string(value);
  value = value.substr(1, value.size() - 2);
  std::string out;
  for (std::size_t i = 0; i < value.size(); ++i) {
    if (value[i] == '\\' && i + 1 < value.size())
      ++i;
    out += value[i];
  }
  return out;
}

// One row's lines; a quoted value may go on over lines, which the log shows as one.
void add_rows(std::vector<std::string> &lines, const Row &row, const std::string &printed, std::int64_t e_all) {
  if (printed.empty() && !row.array)
    lines.push_back(std::string("\t") + row.name + " = undefined");
  const bool several = row.array;
  std::string_view rest = printed;
  while (!rest.empty()) {
    const std::size_t end = several ? rest.find("\n" + std::string(row.name) + "[") : rest.size() - 1;
    const std::string_view line = rest.substr(0, std::min(end, rest.size() - 1));
    rest.remove_prefix(line.size() + 1);
    const std::size_t equals = line.find(" = ");
    std::string name(line.substr(0, equals));
    std::string value = unquoted(line.substr(equals + 3));
    if (const auto level = php::error_level(value, e_all); level && name.starts_with("php_"))
      value = std::to_string(*level);
    if (const std::size_t flag = name.find("_flag["); name.starts_with("php_") && flag != std::string::npos)
      name.replace(flag, 5, "_value");
    lines.push_back("\t" + name + " = " + value);
  }
}

} // namespace

std::vector<std::string> dump_for_log(const Config &config,
                                      const std::function<std::int64_t(const PoolConfig &)> &e_all) {
  std::vector<std::string> lines = {"[global]"};
  for (const Row &row : table()) {
    if (row.scope == Scope::kGlobal)
      add_rows(lines, row, row.print_global(config.global), 0);
  }
  lines.emplace_back(" ");
  for (const PoolConfig &pool : config.pools) {
    lines.push_back("[" + pool.name + "]");
    for (const Row &row : table()) {
      if (row.scope == Scope::kPool)
        add_rows(lines, row, row.print_pool(pool), e_all(pool));
    }
    lines.emplace_back(" ");
  }
  return lines;
}

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
