// What the command line of tqfpm adds to every php-cgi: -c, -n, -d.
#pragma once

#include <string>
#include <vector>

namespace tqfpm::php {

struct Options {
  std::string ini_path;             // -c
  bool no_ini = false;              // -n
  std::vector<std::string> defines; // -d, each k or k=v
  // As arguments of php-cgi, and of tqfpm itself, which takes the same.
  [[nodiscard]] std::vector<std::string> arguments() const;
};

} // namespace tqfpm::php
