// The role `tqfpm --dispatcher`: from root with open descriptors to an unprivileged event loop.
#include <fcntl.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstring>
#include <thread>

#include "dispatcher/dispatcher.h"
#include "sys/apparmor.h"
#include "sys/files.h"
#include "sys/log.h"
#include "sys/paths.h"
#include "sys/process.h"
#include "sys/profile.h"
#include "sys/socket.h"

namespace tqfpm::dispatcher {

namespace {

// What the master did not give stays a harmless descriptor, so that nothing else gets its number.
void settle_descriptors() {
  for (int fd = ipc::kControlFd; fd <= ipc::kLastDispatcherFd; ++fd) {
    if (::fcntl(fd, F_SETFD, FD_CLOEXEC) == 0)
      continue;
    sys::Fd null(::open("/dev/null", O_RDWR | O_CLOEXEC));
    if (null.valid() && null.get() == fd)
      (void)null.release(); // it is in its place
    else if (null.valid())
      (void)::dup3(null.get(), fd, O_CLOEXEC);
  }
  (void)sys::set_nonblocking(ipc::kControlFd, true);
}

// What it was before.
std::optional<rlimit> raise_file_limit() {
  rlimit limit{};
  if (::getrlimit(RLIMIT_NOFILE, &limit) != 0)
    return std::nullopt;
  const rlimit before = limit;
  // Each worker needs up to four descriptors here, each connection one. Beyond the hard limit as far as root may.
  const rlimit wanted{1U << 20, 1U << 20};
  if (limit.rlim_max >= wanted.rlim_max || ::setrlimit(RLIMIT_NOFILE, &wanted) != 0) {
    limit.rlim_cur = limit.rlim_max;
    (void)::setrlimit(RLIMIT_NOFILE, &limit);
  }
  return before;
}

Result<std::optional<sys::Identity>> pool_identity(const config::PoolConfig &pool) {
  if (!sys::is_root() || pool.user.empty())
    return std::optional<sys::Identity>();
  auto identity = sys::find_identity(pool.user, pool.group);
  if (!identity.ok())
    return identity.error();
  return std::optional<sys::Identity>(std::move(identity.value()));
}

Result<std::optional<sys::Identity>> own_identity(const config::GlobalConfig &global) {
  if (!sys::is_root())
    return std::optional<sys::Identity>();
  std::string name = global.dispatcher_user;
  if (name.empty())
    name = sys::find_user("tqfpm") ? "tqfpm" : "nobody";
  auto identity = sys::find_identity(name, "");
  if (!identity.ok())
    return Error{identity.error().message + " (dispatcher.user)"};
  identity.value().groups.clear();
  return std::optional<sys::Identity>(std::move(identity.value()));
}

Result<config::Config> read_config(int fd) {
  const auto text = sys::read_fd(fd);
  if (!text.ok())
    return text.error();
  config::TextSource source(text.value());
  config::LoadRequest request;
  request.path = "the master's configuration";
  config::LoadResult loaded = config::load(request, source);
  if (!loaded.ok() || loaded.config.pools.size() != 1)
    return Error{loaded.messages.empty() ? "no configuration" : loaded.messages.front().str()};
  return std::move(loaded.config);
}

spawner::SpawnerPlan spawner_plan(const DispatcherStart &start, const std::optional<sys::Identity> &user,
                                  sys::Fd library) {
  const config::PoolConfig &pool = start.config.pools.front();
  spawner::SpawnerPlan plan;
  plan.command = [&start, &user](ipc::SpawnKind kind, std::optional<int> settings) -> Result<spawner::PhpCommand> {
    const bool asks_ini = kind == ipc::SpawnKind::kTemplate;
    const sys::Identity *identity = user ? &*user : nullptr;
    if (!settings)
      return spawner::php_command(start.config.pools.front(), start.php, identity, environ, start.folders, asks_ini);
    auto config = read_config(*settings);
    if (!config.ok())
      return config.error();
    return spawner::php_command(config.value().pools.front(), start.php, identity, environ, start.folders, asks_ini);
  };
  plan.library = std::move(library);
  plan.user = user;
  plan.pool = pool.name;
  plan.files = start.files;
  plan.chroot = pool.chroot;
  plan.chdir = pool.chdir;
  if (pool.rlimit_files > 0)
    plan.limit_files = static_cast<std::uint64_t>(pool.rlimit_files);
  else if (start.config.global.rlimit_files > 0)
    plan.limit_files = static_cast<std::uint64_t>(start.config.global.rlimit_files);
  if (pool.rlimit_core)
    plan.limit_core = *pool.rlimit_core;
  else if (start.config.global.rlimit_core)
    plan.limit_core = *start.config.global.rlimit_core;
  const bool cores = pool.process_dumpable || !user;
  if (!cores)
    plan.limit_core = 0;
  // The spawner can read only workers that are dumpable.
  plan.dumpable = cores || pool.request_slowlog_timeout > Duration::zero() || pool.pm_max_memory.value > 0;
  plan.subreaper = pool.process_kill_descendants;
  if (const auto &priority = pool.process_priority ? pool.process_priority : start.config.global.process_priority)
    plan.priority = static_cast<int>(*priority);
  return plan;
}

// As php-fpm: the hat of the profile that we have ourselves.
Status find_profile(const config::PoolConfig &pool, spawner::SpawnerPlan &plan) {
  if (pool.apparmor_hat.empty())
    return success();
  const auto profile = sys::apparmor_profile();
  if (!profile.ok())
    return Error{"failed to query apparmor confinement (" + profile.error().message +
                     R"(). Please check if "/proc/*/attr/current" is read and writeable.)",
                 profile.error().code};
  plan.apparmor = profile.value() + "//" + pool.apparmor_hat;
  plan.apparmor_folder = sys::apparmor_folder();
  return success();
}

int complain(const std::string &pool, const std::string &what) {
  ipc::DispatcherReport message{ipc::DispatcherMessage::kFailed, 0, {}};
  message.length = static_cast<std::uint32_t>(std::min(what.size(), sizeof message.text));
  memcpy(message.text, what.data(), message.length);
  if (!sys::send_packet(ipc::kControlFd, &message, sizeof message, {}))
    sys::log().error("[pool {}] {}", pool, what);
  return 1;
}

// After a fast stop: what has been killed is reaped, so that the master's "bye-bye" is true.
void reap_all() {
  for (int i = 0; i < 200; ++i) {
    if (sys::next_ended_child())
      continue;
    if (errno == ECHILD)
      return;
    std::this_thread::sleep_for(milliseconds(5));
  }
}

int serve(const DispatcherStart &start, const std::optional<sys::Identity> &user, sys::Fd library) {
  const bool has_library = library.valid();
  const config::PoolConfig &pool = start.config.pools.front();
  auto scoreboard = sys::Mapping::map(ipc::kScoreboardFd, sizeof(status::Scoreboard));
  auto processes = sys::Mapping::map(ipc::kProcessesFd, sizeof(status::ProcessBoard));
  if (!scoreboard.ok() || !processes.ok())
    return complain(pool.name, scoreboard.ok() ? processes.error().message : scoreboard.error().message);
  scoreboard.value().keep_to_itself(); // the spawner has the rights of scripts
  processes.value().keep_to_itself();
  spawner::SpawnerPlan plan = spawner_plan(start, user, std::move(library));
  if (auto status = find_profile(pool, plan); !status.ok())
    return complain(pool.name, status.error().message);
  auto spawner = spawner::fork_spawner(plan);
  if (!spawner.ok())
    return complain(pool.name, spawner.error().message);
  sys::profile_start(pool.name);
  if (start.own_user) {
    const bool same = user && user->uid == start.own_user->uid;
    if (auto status = sys::become(*start.own_user, same ? sys::Keep::kNothing : sys::Keep::kKill); !status.ok())
      return complain(pool.name, status.error().message);
  }
  sys::no_new_privileges();
  int code = 0;
  {
    sys::EventLoop loop;
    Dispatcher dispatcher(loop, start, std::move(spawner.value()), has_library, std::move(scoreboard.value()),
                          std::move(processes.value()));
    code = dispatcher.run();
  }
  sys::profile_stop();
  reap_all();
  sys::log().sink().finish(seconds(1));
  return code;
}

// The master's descriptor, or where that is a socket of datagrams: syslog.
void take_log(const config::GlobalConfig &global) {
  sys::log().set_level(static_cast<sys::Level>(global.log_level));
  sys::log().set_json(global.log_format == config::LogFormat::kJson);
  int type = 0;
  socklen_t length = sizeof type;
  if (::getsockopt(ipc::kErrorLogFd, SOL_SOCKET, SO_TYPE, &type, &length) == 0 && type == SOCK_DGRAM)
    sys::log().take_syslog(global.syslog_ident, syslog_facility(global.syslog_facility));
  else
    sys::log().take(sys::Fd(ipc::kErrorLogFd));
}

// None with php.spawn = exec, or where it cannot be had.
sys::Fd open_library(const config::PoolConfig &pool) {
  if (pool.php_spawn != config::SpawnMode::kFork)
    return {};
  const auto path = sys::find_library("libtqfpm-template.so");
  sys::Fd library(path ? ::open(path->c_str(), O_RDONLY | O_CLOEXEC) : -1);
  if (!library.valid())
    sys::log().notice("[pool {}] libtqfpm-template.so is not there: falling back to php.spawn = exec", pool.name);
  return library;
}

} // namespace

int dispatcher_main(const spawner::PhpOptions &php) {
  settle_descriptors();
  sys::log().use(ipc::kErrorLogFd);
  auto config = read_config(ipc::kConfigFd);
  if (!config.ok())
    return complain("?", config.error().message);
  DispatcherStart start{std::move(config.value()), php, {}, std::nullopt, std::nullopt};
  const config::PoolConfig &pool = start.config.pools.front();
  take_log(start.config.global);
  sys::set_title("tqfpm: pool " + pool.name);
  ::signal(SIGPIPE, SIG_IGN);
  ::umask(022);
  (void)::prctl(PR_SET_CHILD_SUBREAPER, 1);
  start.files = raise_file_limit();
  start.folders = spawner::section_folders(pool, sys::folders_in(pool.chroot.empty() ? "/" : pool.chroot));
  sys::Fd library = open_library(pool);
  auto user = pool_identity(pool);
  auto own = own_identity(start.config.global);
  if (!user.ok() || !own.ok())
    return complain(pool.name, user.ok() ? own.error().message : user.error().message);
  start.own_user = own.value();
  return serve(start, user.value(), std::move(library));
}

} // namespace tqfpm::dispatcher
