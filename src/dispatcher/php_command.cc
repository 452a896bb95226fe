#include "dispatcher/php_command.h"

#include <algorithm>
#include <cctype>

#include "ipc/control.h"
#include "sys/files.h"

namespace tqfpm::dispatcher {

namespace {

// Constants and their combinations (E_ALL & ~E_NOTICE) and numbers must reach PHP unquoted to be evaluated.
bool is_expression(const std::string &value) {
  if (value.empty() || std::isalnum(static_cast<unsigned char>(value.front())) == 0)
    return false;
  return std::all_of(value.begin(), value.end(), [](unsigned char c) {
    return std::isupper(c) != 0 || std::isdigit(c) != 0 || c == '_' || c == ' ' || c == '&' || c == '|' || c == '~' ||
           c == '^';
  });
}

void add_settings(std::vector<std::string> &arguments, const std::vector<config::KeyValue> &settings) {
  for (const config::KeyValue &each : settings)
    arguments.push_back(define_argument(each.key, each.value));
}

// Replaces the variable, or adds it at the end: the order stays.
void set_variable(std::vector<std::string> &environment, const std::string &name, const std::string &value) {
  const std::string head = name + "=";
  const auto found = std::find_if(environment.begin(), environment.end(),
                                  [&head](const std::string &each) { return each.starts_with(head); });
  if (found != environment.end())
    *found = head + value;
  else
    environment.push_back(head + value);
}

// A folder given as php.ini has a conf.d of its own, as Debian's /etc/php/8.2/fpm; php-cgi would read the one that it
// was built with.
void add_scan_dir(std::vector<std::string> &environment, const std::string &ini) {
  const std::string folder = ini + "/conf.d";
  const bool chosen = std::any_of(environment.begin(), environment.end(),
                                  [](const std::string &each) { return each.starts_with("PHP_INI_SCAN_DIR="); });
  if (ini.empty() || chosen || !sys::is_folder(folder))
    return;
  environment.push_back("PHP_INI_SCAN_DIR=" + folder);
  environment.push_back(std::string(ipc::kEnvOwnScanDir) + "=1");
}

bool is_ours(const std::string &name) {
  return name.starts_with("TQFPM_") || name == "NOTIFY_SOCKET" || name == "LISTEN_FDS" || name == "LISTEN_PID" ||
         name == "LISTEN_FDNAMES" || name == "FPM_SOCKETS" || name == "PHP_FCGI_CHILDREN" ||
         name == "PHP_FCGI_MAX_REQUESTS" || name == "FCGI_WEB_SERVER_ADDRS";
}

} // namespace

std::string define_argument(const std::string &key, const std::string &value) {
  if (is_expression(value))
    return "-d" + key + "=" + value;
  std::string quoted;
  for (const char c : value) {
    if (c == '"' || c == '\\')
      quoted += '\\';
    quoted += c;
  }
  return "-d" + key + "=\"" + quoted + "\"";
}

PhpCommand php_command(const config::PoolConfig &pool, const PhpOptions &options, const sys::Identity *identity,
                       char **inherited) {
  PhpCommand command;
  command.path = pool.php_binary;
  command.arguments.push_back(pool.php_binary);
  if (options.no_ini)
    command.arguments.emplace_back("-n");
  const std::string &ini = pool.php_ini.empty() ? options.ini_path : pool.php_ini;
  if (!ini.empty())
    command.arguments.push_back("-c" + ini);
  for (const std::string &define : options.defines)
    command.arguments.push_back("-d" + define);
  add_settings(command.arguments, pool.php_value);
  add_settings(command.arguments, pool.php_flag);
  add_settings(command.arguments, pool.php_admin_value);
  add_settings(command.arguments, pool.php_admin_flag);
  command.arguments.push_back(define_argument("fastcgi.logging", "1"));

  for (char **entry = inherited; !pool.clear_env && *entry != nullptr; ++entry) {
    const std::string text = *entry;
    const std::size_t equals = text.find('=');
    if (equals != std::string::npos && !is_ours(text.substr(0, equals)))
      set_variable(command.environment, text.substr(0, equals), text.substr(equals + 1));
  }
  if (identity != nullptr) {
    set_variable(command.environment, "USER", identity->user);
    set_variable(command.environment, "HOME", identity->home);
  }
  for (const config::KeyValue &each : pool.env)
    set_variable(command.environment, each.key, each.value);
  add_scan_dir(command.environment, ini);
  // php-cgi would end itself after 500 requests; tqfpm counts.
  command.environment.emplace_back("PHP_FCGI_MAX_REQUESTS=0");
  return command;
}

} // namespace tqfpm::dispatcher
