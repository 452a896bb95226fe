// The php-cgi command of a pool: arguments and environment, for the template and for single workers.
#pragma once

#include <string>
#include <vector>

#include "config/types.h"
#include "sys/privileges.h"

namespace tqfpm::dispatcher {

// What the command line of tqfpm adds to every php-cgi (-c, -n, -d).
struct PhpOptions {
  std::string ini_path;
  bool no_ini = false;
  std::vector<std::string> defines; // k or k=v
};

struct PhpCommand {
  std::string path;
  std::vector<std::string> arguments;
  std::vector<std::string> environment; // NAME=value, without tqfpm's own variables
};

// `inherited` is this process's environment, used with clear_env = no. `identity` gives USER and HOME, as php-fpm does.
PhpCommand php_command(const config::PoolConfig &pool, const PhpOptions &options, const sys::Identity *identity,
                       char **inherited);

// "-d" arguments for one setting, quoted so that php-cgi's parser reads back exactly `value`.
std::string define_argument(const std::string &key, const std::string &value);

} // namespace tqfpm::dispatcher
