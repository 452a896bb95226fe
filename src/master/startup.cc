#include "master/startup.h"

#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>

#include "base/networks.h"
#include "base/wait_status.h"
#include "status/access_format.h"
#include "sys/files.h"
#include "sys/log.h"
#include "sys/paths.h"
#include "sys/privileges.h"
#include "sys/process.h"

namespace tqfpm::master {

namespace {

class ConfigFiles : public config::FileSource {
public:
  Result<std::string> read(const std::string &path) override { return sys::read_file(path); }
  Result<std::vector<std::string>> glob(const std::string &pattern) override { return sys::glob_files(pattern); }
};

// As php-fpm: who does not start as root has no use for user and group, a test of the configuration looks at them.
void check_accounts(const config::PoolConfig &pool, const Options &options, config::LoadResult &result) {
  const auto say = [&](const char *directive, const std::string &text) {
    const std::string name = directive;
    const config::Location where = result.place(pool, directive);
    const bool whole = name == "user" || name == "group"; // php-fpm's lines end here
    result.say(config::Severity::kError, pool, directive,
               whole ? text : fmt::format("{}: there is none; see {} ({}:{})", text, name, where.file, where.line),
               config::Lead::kPool);
  };
  const auto need_user = [&](const char *directive, const std::string &name) {
    if (!name.empty() && !sys::find_user(name))
      say(directive, "cannot get uid for user '" + name + "'");
  };
  const auto need_group = [&](const char *directive, const std::string &name) {
    if (!name.empty() && !sys::find_group(name))
      say(directive, "cannot get gid for group '" + name + "'");
  };
  need_user("listen.owner", pool.listen_owner);
  need_group("listen.group", pool.listen_group);
  for (const std::string &name : pool.listen_acl_users)
    need_user("listen.acl_users", name);
  for (const std::string &name : pool.listen_acl_groups)
    need_group("listen.acl_groups", name);
  if (sys::is_root() || options.test > 0) {
    need_user("user", pool.user);
    need_group("group", pool.group);
  }
}

// What depends on who starts tqfpm.
void check_rights(const config::PoolConfig &pool, const Options &options, config::LoadResult &result) {
  using config::Severity;
  if (!sys::is_root()) {
    if (!pool.user.empty() && options.test == 0)
      result.say(Severity::kNotice, pool, "user", "'user' directive is ignored when FPM is not running as root");
    if (!pool.group.empty() && options.test == 0)
      result.say(Severity::kNotice, pool, "group", "'group' directive is ignored when FPM is not running as root");
    if (!pool.chroot.empty())
      result.say(Severity::kError, pool, "chroot", "chroot needs root; start tqfpm as root or remove it");
    return;
  }
  const auto uid = sys::find_user(pool.user);
  const std::string &dispatcher = result.config.global.dispatcher_user;
  if (uid && !dispatcher.empty() && uid == sys::find_user(dispatcher))
    result.say(Severity::kError, pool, "user",
               "user is the account of dispatcher.user, too: scripts could do anything to the dispatchers; give "
               "dispatcher.user an account of its own");
  if (pool.user.empty())
    result.say(Severity::kError, pool, "user", "user has not been defined; set user = to the account that PHP runs as");
  else if (uid && *uid == 0 && !options.allow_root)
    result.say(Severity::kError, pool, "user",
               "please specify user and group other than root, or start with --allow-to-run-as-root");
}

void check_folders(const config::PoolConfig &pool, config::LoadResult &result) {
  const auto say = [&](const char *directive, const std::string &what) {
    result.say(config::Severity::kError, pool, directive, what + " does not exist or is not a directory");
  };
  if (!pool.prefix.empty() && !sys::is_folder(pool.prefix))
    say("prefix", "the prefix '" + pool.prefix + "'");
  if (!pool.chroot.empty() && !sys::is_folder(pool.chroot))
    say("chroot", "the chroot path '" + pool.chroot + "'");
  else if (!pool.chdir.empty() && !pool.chroot.empty() && !sys::is_folder(pool.chroot + pool.chdir))
    say("chdir", fmt::format("the chdir path '{}' within the chroot path '{}'", pool.chdir, pool.chroot));
  else if (!pool.chdir.empty() && pool.chroot.empty() && !sys::is_folder(pool.chdir))
    say("chdir", "the chdir path '" + pool.chdir + "'");
}

// Whoever can send FastCGI to a pool can have it run any PHP file.
void warn_of_open_socket(const config::PoolConfig &pool, config::LoadResult &result) {
  if (pool.listen.kind == config::Address::Kind::kTcp && pool.listen_allowed_clients.empty() &&
      !is_loopback(pool.listen.host))
    result.say(config::Severity::kNotice, pool, "listen",
               fmt::format("listen = {} can be reached from other hosts, and whoever reaches it can run any PHP file "
                           "here; set listen.allowed_clients",
                           pool.listen.text));
}

// php-fpm's php.ini on Debian lies beside its configuration; who moves over expects it to count.
void find_ini(config::PoolConfig &pool, const Options &options) {
  const std::string folder = config::php_folder_from_path(options.config_path);
  const bool chosen = !pool.php_ini.empty() || !options.php.ini_path.empty() || options.php.no_ini;
  const bool other_php = !pool.php_binary.empty() ||
                         (!pool.php_version.empty() && pool.php_version != config::php_from_path(options.config_path));
  if (!folder.empty() && !chosen && !other_php && sys::is_readable(folder + "/php.ini"))
    pool.php_ini = folder;
}

void check_php(config::PoolConfig &pool, const std::string &config_path, config::LoadResult &result) {
  const char *directive = pool.php_binary.empty() ? "php.version" : "php.binary";
  auto binary = find_php(pool, config_path);
  if (!binary.ok()) {
    result.say(config::Severity::kError, pool, directive, binary.error().message);
    return;
  }
  pool.php_binary = binary.value();
  if (sys::is_root() && !sys::find_user(pool.user))
    return; // which is an error of its own
  const auto version = php_version(pool);
  if (!version.ok())
    result.say(config::Severity::kError, pool, directive, version.error().message);
}

} // namespace

Result<sys::Output> run_php(const std::string &binary, const std::vector<std::string> &arguments,
                            const std::optional<sys::ExecUser> &user) {
  std::vector<std::string> all = {binary};
  all.insert(all.end(), arguments.begin(), arguments.end());
  return sys::run_program(binary, all, seconds(30),
                          {"SERVER_SOFTWARE", "SERVER_NAME", "GATEWAY_INTERFACE", "REQUEST_METHOD"}, user);
}

Result<std::string> php_version(const config::PoolConfig &pool) {
  static std::map<std::pair<std::string, uid_t>, std::string> known;
  const std::string &binary = pool.php_binary;
  std::optional<sys::ExecUser> user;
  if (sys::is_root()) {
    auto identity = sys::find_identity(pool.user, pool.group);
    if (!identity.ok())
      return identity.error();
    user = sys::ExecUser{identity.value().uid, identity.value().gid, std::move(identity.value().groups)};
  }
  const std::pair key(binary, user ? user->uid : ::geteuid());
  if (const auto found = known.find(key); found != known.end())
    return found->second;
  const auto output = run_php(binary, {"-n", "-v"}, user);
  if (!output.ok())
    return Error{"php.binary: " + output.error().message};
  const std::string &text = output.value().text;
  if (!ended_well(output.value().status) || !text.starts_with("PHP ") || text.find("(cgi-fcgi)") == std::string::npos)
    return Error{"php.binary: " + binary + " is no php-cgi: its -v says '" + text.substr(0, text.find('\n')) +
                 "'; name a php-cgi binary (Debian: package php-cgi)"};
  known[key] = text;
  return text;
}

Result<std::string> find_php(const config::PoolConfig &pool, const std::string &config_path) {
  if (!pool.php_binary.empty()) {
    if (sys::is_executable(pool.php_binary))
      return pool.php_binary;
    return Error{"php.binary: " + pool.php_binary + " is not there or cannot be executed"};
  }
  if (!pool.php_version.empty()) {
    const std::string name = "php-cgi" + pool.php_version;
    if (auto found = sys::find_program(name))
      return *found;
    return Error{"php.version: there is no " + name + " in PATH; install it (Debian: package php" + pool.php_version +
                 "-cgi) or set php.binary"};
  }
  const std::string guessed = config::php_from_path(config_path);
  if (!guessed.empty()) {
    if (auto found = sys::find_program("php-cgi" + guessed))
      return *found;
  }
  if (auto found = sys::find_program("php-cgi"))
    return *found;
  return Error{"php-cgi was not found in PATH; install it (Debian: package php-cgi) or set php.binary"};
}

config::LoadResult read_configuration(const Options &options, bool keep_environment) {
  ConfigFiles files;
  config::LoadRequest request;
  request.path = options.config_path;
  request.prefix = options.prefix;
  request.default_prefix = sys::default_prefix();
  request.default_error_log = sys::kDefaultErrorLog;
  request.environment = [](const std::string &name) -> std::optional<std::string> {
    const char *value = std::getenv(name.c_str());
    return value != nullptr ? std::optional<std::string>(value) : std::nullopt;
  };
  request.keep_environment = keep_environment;
  return config::load(request, files);
}

config::LoadResult load_configuration(const Options &options) {
  config::LoadResult result = read_configuration(options, false);
  for (config::PoolConfig &pool : result.config.pools) {
    check_accounts(pool, options, result);
    check_rights(pool, options, result);
    check_folders(pool, result);
    if (options.test == 0)
      warn_of_open_socket(pool, result);
    find_ini(pool, options);
    check_php(pool, options.config_path, result);
    auto format = status::AccessFormat::compile(pool.access_format);
    if (!format.ok())
      result.say(config::Severity::kError, pool, "access.format",
                 fmt::format("wrong format for access.format '{}': {}", pool.access_format, format.error().message));
  }
  if (!options.pid_file.empty())
    result.config.global.pid = options.pid_file;
  return result;
}

bool uses_error_log(const Options &options, const config::GlobalConfig &global) {
  const bool background = options.daemonize.value_or(global.daemonize);
  return !global.error_log.empty() && (background || (!options.force_stderr && ::isatty(STDERR_FILENO) == 0));
}

namespace {

sys::ListenSpec listen_spec(const config::PoolConfig &pool, const config::Address &address) {
  sys::ListenSpec spec;
  spec.is_unix = address.kind == config::Address::Kind::kUnix;
  spec.text = address.text;
  spec.path = address.path;
  spec.host = address.host;
  spec.port = address.port;
  spec.backlog = static_cast<int>(pool.listen_backlog);
  spec.mode = static_cast<mode_t>(pool.listen_mode);
  spec.uid = static_cast<uid_t>(-1);
  spec.gid = static_cast<gid_t>(-1);
  if (const auto uid = sys::find_user(pool.listen_owner); uid && !pool.listen_owner.empty())
    spec.uid = *uid;
  if (const auto gid = sys::find_group(pool.listen_group); gid && !pool.listen_group.empty())
    spec.gid = *gid;
  spec.set_owner = spec.uid != static_cast<uid_t>(-1) || spec.gid != static_cast<gid_t>(-1);
  for (const std::string &name : pool.listen_acl_users) {
    if (const auto uid = sys::find_user(name))
      spec.acl_users.emplace_back(*uid, name);
  }
  for (const std::string &name : pool.listen_acl_groups) {
    if (const auto gid = sys::find_group(name))
      spec.acl_groups.emplace_back(*gid, name);
  }
  return spec;
}

// Does an inherited socket's address mean the one that is asked for? A port alone may be bound to :: or 0.0.0.0.
bool same_address(const sys::ListenSpec &spec, const std::string &bound) {
  if (spec.is_unix)
    return bound == spec.path;
  const std::string port = ":" + std::to_string(spec.port);
  if (spec.host.empty())
    return bound == "[::]" + port || bound == "0.0.0.0" + port;
  return bound == spec.host + port || bound == "[" + spec.host + "]" + port || bound == spec.text;
}

} // namespace

Result<Listener> open_listener(const config::PoolConfig &pool, const config::Address &address, const char *directive,
                               std::vector<InheritedSocket> &inherited) {
  const sys::ListenSpec spec = listen_spec(pool, address);
  for (InheritedSocket &each : inherited) {
    if (each.fd.valid() && (each.address == spec.text || same_address(spec, each.address))) {
      if (auto status = sys::set_nonblocking(each.fd.get(), true); !status.ok())
        return status.error();
      return Listener{std::move(each.fd), each.given};
    }
  }
  std::vector<std::string> notices;
  auto fd = sys::listen_on(spec, notices);
  for (const std::string &notice : notices)
    sys::log().notice("{}", notice);
  if (!fd.ok() && fd.error().message.starts_with("unable to bind") && fd.error().code == EADDRINUSE)
    return Error{
        fmt::format("{}\n[pool {}] stop what listens there or change {}", fd.error().message, pool.name, directive),
        fd.error().code};
  if (!fd.ok())
    return Error{"[pool " + pool.name + "] " + fd.error().message, fd.error().code};
  return Listener{std::move(fd.value()), false};
}

} // namespace tqfpm::master
