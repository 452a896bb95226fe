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
// `folders` are the names in the root of what workers see: there admin values cannot be changed by scripts (see
// fcgi::locked_script).
PhpCommand php_command(const config::PoolConfig &pool, const PhpOptions &options, const sys::Identity *identity,
                       char **inherited, const std::vector<std::string> &folders);

// "-d" argument for one setting, quoted so that php-cgi's parser reads back exactly `value`.
std::string define_argument(const std::string &key, const std::string &value);

// Has the pool values that scripts must not change and could?
bool has_locked_values(const config::PoolConfig &pool);

} // namespace tqfpm::dispatcher
