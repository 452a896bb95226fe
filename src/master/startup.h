// From files to something that can run: configuration, users, php-cgi binaries, listening sockets.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "config/load.h"
#include "master/options.h"
#include "sys/fd.h"
#include "sys/process.h"
#include "sys/socket.h"

namespace tqfpm::master {

// Loads and checks everything that can be checked without changing anything: what -t does. Messages of
// the system's side (users, php-cgi) are added to those of the files; php.binary of each pool is filled in.
config::LoadResult load_configuration(const Options &options);
// The files alone. `keep_environment`: env[X] = $X stays as it is.
config::LoadResult read_configuration(const Options &options, bool keep_environment);

// The listening sockets that were there before: from a reload or from systemd.
struct InheritedSocket {
  std::string address; // as sys::bound_address() says
  sys::Fd fd;
  bool given = false; // by systemd, whose file in the file system it is
};
struct Listener {
  sys::Fd fd;
  bool given = false;
};

// Does the log go to error_log? As in php-fpm not for somebody who looks on: in the foreground with -O or on a
// terminal.
bool uses_error_log(const Options &options, const config::GlobalConfig &global);

// Takes one of the pool's sockets from `inherited`, or opens it: `directive` names the one. Notices are logged. The
// message of an error may have several lines.
Result<Listener> open_listener(const config::PoolConfig &pool, const config::Address &address, const char *directive,
                               std::vector<InheritedSocket> &inherited);

// Runs a php-cgi for what it prints. In the environment of a CGI program it would serve a request instead of reading
// its arguments: those variables are kept from it.
Result<sys::Output> run_php(const std::string &binary, const std::vector<std::string> &arguments,
                            const std::optional<sys::ExecUser> &user = {});
// "PHP 8.2.36 (cgi-fcgi) ..." of the pool's php.binary, all lines of -v. It runs as the pool's user, who may be able to
// change it.
Result<std::string> php_version(const config::PoolConfig &pool);
// php.binary, or what php.version, the path of the configuration file and PATH lead to.
Result<std::string> find_php(const config::PoolConfig &pool, const std::string &config_path);

} // namespace tqfpm::master
