// The php-cgi command of a pool: arguments and environment, for the template and for single workers.
#pragma once

#include <string>
#include <vector>

#include "config/types.h"
#include "php/options.h"
#include "sys/privileges.h"

namespace tqfpm::spawner {

using PhpOptions = php::Options;

struct PhpCommand {
  std::string path;
  std::vector<std::string> arguments;
  std::vector<std::string> environment; // NAME=value, without tqfpm's own variables
  bool own_scan_dir = false;            // PHP_INI_SCAN_DIR in it is ours, not the operator's
};

// `inherited` is this process's environment, used with clear_env = no. `identity` gives USER and HOME, as php-fpm does.
// `folders` are the names in the root of what workers see: there admin values cannot be changed by scripts (see
// php::locked_script).
// `asks_ini`: for a template, which tells what php.ini says about paths (ipc::PhpFacts).
PhpCommand php_command(const config::PoolConfig &pool, const PhpOptions &options, const sys::Identity *identity,
                       char **inherited, const std::vector<std::string> &folders, bool asks_ini);

// What the pool and the command line say about the way from a request to its script; php.ini may say more.
struct PathSettings {
  bool fix_pathinfo = true;
  bool discard_path = false;
  bool script_path_encoded = true;
  std::string doc_root;
  std::string user_dir;
};
PathSettings path_settings(const config::PoolConfig &pool, const PhpOptions &options);

// Those of `folders` (sorted) whose sections fit into the command of this pool, for php_command() and
// php::locked_script().
std::vector<std::string> section_folders(const config::PoolConfig &pool, const std::vector<std::string> &folders);

// Has the pool values that scripts must not change and could?
bool has_locked_values(const config::PoolConfig &pool);

} // namespace tqfpm::spawner
