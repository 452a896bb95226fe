// The command line: php-fpm's options.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "base/result.h"
#include "php/options.h"

namespace tqfpm::master {

struct Options {
  std::string config_path;       // -y, or the installation's
  std::string prefix;            // -p
  std::string pid_file;          // -g
  php::Options php;              // -c, -n, -d
  int test = 0;                  // -t: 1, -tt: 2
  std::optional<bool> daemonize; // -D, -F
  bool force_stderr = false;     // -O
  bool allow_root = false;       // -R
  bool info = false;             // -i
  bool version = false;          // -v
  bool modules = false;          // -m
  bool help = false;             // -h
  std::string migrate;           // -M: from where
  std::string migrate_to;        // -T: the folder
};

// Error: a wrong option; the message names it. `argv` may be permuted.
Result<Options> parse_options(int argc, char **argv);
std::string usage(const std::string &program);

} // namespace tqfpm::master
