#include "spawner/php_command.h"

#include <algorithm>

#include "base/text.h"
#include "ipc/control.h"
#include "php/ini_text.h"
#include "php/script_path.h"
#include "sys/files.h"

namespace tqfpm::spawner {

namespace {

void add_settings(std::vector<std::string> &arguments, const std::vector<config::KeyValue> &settings) {
  for (const config::KeyValue &each : settings) {
    if (const std::string line = php::ini_line(each.key, each.value); !line.empty())
      arguments.push_back("-d" + line);
  }
}

// Settings that PHP itself does not let scripts change, and that it does not take at the start of a request: locking
// them would do nothing, or bring a warning for each request.
bool lockable(const config::KeyValue &setting) {
  constexpr std::string_view kFixed[] = {"extension",       "zend_extension",   "disable_functions",
                                         "disable_classes", "cgi.fix_pathinfo", "cgi.discard_path"};
  return !setting.key.starts_with("opcache.") && !setting.key.starts_with("apc.") &&
         std::find(std::begin(kFixed), std::end(kFixed), setting.key) == std::end(kFixed);
}

// The lines of each section of a folder.
std::string locked_values(const config::PoolConfig &pool) {
  std::string values = "cgi.fix_pathinfo=${tqfpm.fix_pathinfo}\n"; // see add_path_settings
  for (const auto *settings : {&pool.php_admin_value, &pool.php_admin_flag}) {
    for (const config::KeyValue &each : *settings)
      values += lockable(each) ? php::ini_line(each.key, each.value) + "\n" : "";
  }
  return values;
}

// php-cgi takes what a [PATH=/folder] section says for scripts below the folder, and neither ini_set() nor .user.ini
// can change it. It looks at every folder on the way to the script but the root itself: one section for each folder in
// it. A -d argument is a line of php.ini, and may be several.
void add_locks(std::vector<std::string> &arguments, const config::PoolConfig &pool,
               const std::vector<std::string> &folders) {
  const std::string values = locked_values(pool);
  std::vector<std::string> paths = {".", "/."}; // see php::locked_script
  for (const std::string &folder : folders) {
    if (php::is_section_name(folder))
      paths.push_back("/" + folder);
  }
  for (const std::string &path : paths)
    arguments.push_back("-dtqfpm.locked=1\n[PATH=" + path + "]\n" + values);
}

// The dispatcher decides which script runs and what it is told. php-cgi must neither look for another one (it would run
// /x/a.jpg for /x/a.jpg/b.php) nor move path info about: when a request begins cgi.fix_pathinfo is 0, and
// PATH_TRANSLATED is what runs if it is there. Then the sections of folders (see add_locks) set what the pool and
// php.ini say, for scripts that ask. ${...} is what was said before this, or the variable of the environment of that
// name.
void add_path_settings(PhpCommand &command, const PathSettings &settings, bool asks_ini) {
  const char *said = settings.fix_pathinfo ? "1" : "0";
  command.arguments.push_back(std::string("-dtqfpm.fix_pathinfo=") + (asks_ini ? "${cgi.fix_pathinfo}" : said));
  command.arguments.emplace_back("-dtqfpm.discard_path=${cgi.discard_path}");
  command.arguments.emplace_back("-dcgi.fix_pathinfo=0");
  command.arguments.emplace_back("-dcgi.discard_path=0");
}

bool is_on(const std::string &value) {
  const std::string text = lower(value);
  return text == "on" || text == "yes" || text == "true" || to_number(text).value_or(0) != 0;
}

void take_path_setting(PathSettings &settings, const std::string &key, const std::string &value) {
  if (key == "cgi.fix_pathinfo")
    settings.fix_pathinfo = is_on(value);
  else if (key == "cgi.discard_path")
    settings.discard_path = is_on(value);
  else if (key == "fastcgi.script_path_encoded")
    settings.script_path_encoded = is_on(value);
  else if (key == "doc_root")
    settings.doc_root = value;
  else if (key == "user_dir")
    settings.user_dir = value;
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
void add_scan_dir(PhpCommand &command, const std::string &ini) {
  const std::string folder = ini + "/conf.d";
  const bool chosen = std::any_of(command.environment.begin(), command.environment.end(),
                                  [](const std::string &each) { return each.starts_with("PHP_INI_SCAN_DIR="); });
  if (ini.empty() || chosen || !sys::is_folder(folder))
    return;
  command.environment.push_back("PHP_INI_SCAN_DIR=" + folder);
  command.own_scan_dir = true;
}

bool is_ours(const std::string &name) {
  return name.starts_with("TQFPM_") || name == "NOTIFY_SOCKET" || name == "LISTEN_FDS" || name == "LISTEN_PID" ||
         name == "LISTEN_FDNAMES" || name == "FPM_SOCKETS" || name == "PHP_FCGI_CHILDREN" ||
         name == "PHP_FCGI_MAX_REQUESTS" || name == "FCGI_WEB_SERVER_ADDRS";
}

} // namespace

std::vector<std::string> section_folders(const config::PoolConfig &pool, const std::vector<std::string> &folders) {
  return php::section_folders(folders, locked_values(pool).size());
}

bool has_locked_values(const config::PoolConfig &pool) {
  return std::any_of(pool.php_admin_value.begin(), pool.php_admin_value.end(), lockable) ||
         std::any_of(pool.php_admin_flag.begin(), pool.php_admin_flag.end(), lockable);
}

PathSettings path_settings(const config::PoolConfig &pool, const PhpOptions &options) {
  PathSettings settings;
  for (const std::string &define : options.defines) {
    const std::size_t equals = define.find('=');
    std::string value = equals == std::string::npos ? "1" : define.substr(equals + 1);
    if (value.size() >= 2 && value.front() == value.back() && (value.front() == '"' || value.front() == '\''))
      value = value.substr(1, value.size() - 2);
    take_path_setting(settings, define.substr(0, equals), value);
  }
  for (const auto *each : {&pool.php_value, &pool.php_flag, &pool.php_admin_value, &pool.php_admin_flag}) {
    for (const config::KeyValue &setting : *each)
      take_path_setting(settings, setting.key, setting.value);
  }
  return settings;
}

PhpCommand php_command(const config::PoolConfig &pool, const PhpOptions &options, const sys::Identity *identity,
                       char **inherited, const std::vector<std::string> &folders, bool asks_ini) {
  PhpCommand command;
  command.path = pool.php_binary;
  command.arguments.push_back(pool.php_binary);
  PhpOptions chosen = options;
  if (!pool.php_ini.empty())
    chosen.ini_path = pool.php_ini;
  for (std::string &each : chosen.arguments())
    command.arguments.push_back(std::move(each));
  add_settings(command.arguments, pool.php_value);
  add_settings(command.arguments, pool.php_flag);
  add_settings(command.arguments, pool.php_admin_value);
  add_settings(command.arguments, pool.php_admin_flag);
  command.arguments.emplace_back("-dfastcgi.logging=1");
  add_path_settings(command, path_settings(pool, options), asks_ini);
  add_locks(command.arguments, pool, folders);

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
  add_scan_dir(command, chosen.ini_path);
  // php-cgi would end itself after 500 requests; tqfpm counts.
  command.environment.emplace_back("PHP_FCGI_MAX_REQUESTS=0");
  return command;
}

} // namespace tqfpm::spawner
