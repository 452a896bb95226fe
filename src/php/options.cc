#include "php/options.h"

namespace tqfpm::php {

std::vector<std::string> Options::arguments() const {
  std::vector<std::string> arguments;
  if (no_ini)
    arguments.emplace_back("-n");
  if (!ini_path.empty())
    arguments.push_back("-c" + ini_path);
  for (const std::string &define : defines) {
    if (!define.empty())
      arguments.push_back("-d" + define);
  }
  return arguments;
}

} // namespace tqfpm::php
