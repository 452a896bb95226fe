#include "master/master.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstring>

#include "base/exit_codes.h"
#include "base/text.h"
#include "status/process_board.h"
#include "sys/log.h"
#include "sys/paths.h"
#include "sys/sd.h"
#include "sys/socket.h"

namespace tqfpm::master {

namespace {
constexpr Duration kFastStopPatience = seconds(5);

void say_lines(const std::string &lines) {
  for (const std::string &line : split(lines, "\n"))
    sys::log().error("{}", line);
}
} // namespace

Master::Master(const Options &options, std::vector<std::string> command, config::Config config, Inheritance inheritance)
    : options_(options), command_(std::move(command)), config_(std::move(config)), inheritance_(std::move(inheritance)),
      stop_timer_(loop_, [this] { stop_overdue(); }), ready_timer_(loop_, [this] { ready(); }),
      status_timer_(loop_, [this] { tell_status(); }), exec_timer_(loop_, [this] { execute_when_quiet(); }),
      watch_timer_(loop_, [this] { watch_generations(); }) {}

Master::~Master() {
  sys::log().sink().detach();
}

// --- startup --------------------------------------------------------------------------------------------------------

Status Master::start() {
  const auto on_signal = [this](int number, std::function<void()> action) {
    signals_.push_back(std::make_unique<sys::SignalWatch>(loop_, number, std::move(action)));
  };
  on_signal(SIGCHLD, [this] { reap(); });
  on_signal(SIGTERM, [this] { stop(Stop::kFast); });
  on_signal(SIGINT, [this] { stop(Stop::kFast); });
  on_signal(SIGQUIT, [this] { stop(Stop::kGraceful); });
  on_signal(SIGUSR1, [this] { reopen_logs(); });
  on_signal(SIGUSR2, [this] { reload(); });
  on_signal(SIGHUP, [this] { reload(); });
  ::signal(SIGPIPE, SIG_IGN);
  sigset_t none;
  ::sigemptyset(&none);
  (void)::sigprocmask(SIG_SETMASK, &none, nullptr); // a reload leaves them blocked until here
  loop_.before_wait([this] { forget_ended(); });
  sys::log().sink().attach(loop_);
  auto null = sys::Fd(::open("/dev/null", O_RDWR | O_CLOEXEC));
  if (!null.valid())
    return Error{std::string("cannot open /dev/null: ") + strerror(errno), errno};
  null_ = std::move(null);
  if (auto status = open_pid_file(); !status.ok())
    return status;
  if (auto status = open_process_board(); !status.ok())
    return status;
  return open_pools();
}

// At a reload that of the image before, unless it was another version's: counting begins anew then.
Status Master::open_process_board() {
  constexpr std::size_t kSize = sizeof(status::ProcessBoard);
  processes_fd_ = std::move(inheritance_.processes);
  auto mapping = sys::Mapping::map(processes_fd_.get(), kSize);
  if (!mapping.ok()) {
    auto fd = sys::memory_file("tqfpm-processes", kSize);
    if (!fd.ok())
      return fd.error();
    processes_fd_ = std::move(fd.value());
    mapping = sys::Mapping::map(processes_fd_.get(), kSize);
    if (!mapping.ok())
      return mapping.error();
  }
  processes_ = std::make_unique<sys::Mapping>(std::move(mapping.value()));
  return success();
}

// At a reload nothing that goes wrong here ends what already serves: it is said, and the rest goes on.
Status Master::open_pid_file() {
  if (config_.global.pid.empty())
    return success();
  if (inheritance_.reloaded)
    pid_file_.adopt(config_.global.pid);
  auto status = pid_file_.write(config_.global.pid);
  if (status.ok() || !inheritance_.reloaded)
    return status;
  sys::log().error("{}", status.error().message);
  return success();
}

Status Master::open_pools() {
  for (const config::PoolConfig &each : config_.pools) {
    auto pool = std::make_unique<Pool>();
    pool->name = each.name;
    pool->config = each;
    auto status = open_pool(*pool);
    if (!status.ok() && !inheritance_.reloaded)
      return status;
    if (!status.ok())
      say_lines(status.error().message + "; this pool is not started");
    else
      pools_.push_back(std::move(pool));
  }
  for (const auto &pool : pools_) {
    auto status = adopt(*pool);
    if (!status.ok() && !inheritance_.reloaded)
      return status;
    if (!status.ok()) {
      sys::log().error("{}", status.error().message);
      start_again_.push_back(pool.get());
    }
  }
  return success();
}

Status Master::open_pool(Pool &pool) {
  auto listener = open_listener(pool.config, pool.config.listen, "listen", inheritance_.sockets);
  if (!listener.ok())
    return listener.error();
  pool.listener = std::move(listener.value().fd);
  pool.listener_given = listener.value().given;
  if (!pool.config.pm_status_listen.text.empty()) {
    auto status = open_listener(pool.config, pool.config.pm_status_listen, "pm.status_listen", inheritance_.sockets);
    if (!status.ok())
      return status.error();
    pool.status_listener = std::move(status.value().fd);
    pool.status_listener_given = status.value().given;
  }
  for (Inheritance::Board &board : inheritance_.scoreboards) {
    if (board.pool == pool.name && board.fd.valid())
      pool.scoreboard_fd = std::move(board.fd);
  }
  if (!pool.scoreboard_fd.valid()) {
    auto fd = sys::memory_file("tqfpm-scoreboard", sizeof(status::Scoreboard));
    if (!fd.ok())
      return fd.error();
    pool.scoreboard_fd = std::move(fd.value());
  }
  auto mapping = sys::Mapping::map(pool.scoreboard_fd.get(), sizeof(status::Scoreboard));
  if (!mapping.ok()) // of another version of tqfpm: counters begin anew
    return mapping.error();
  pool.scoreboard = std::make_unique<sys::Mapping>(std::move(mapping.value()));
  return success();
}

// Takes up the generations that the image before has left, and starts the new one beside them.
Status Master::adopt(Pool &pool) {
  for (Inheritance::Member &member : inheritance_.generations) {
    if (member.pool != pool.name || !member.control.valid())
      continue;
    Generation &generation = add_generation(pool, member.pid, member.number, std::move(member.control));
    generation.phase = member.phase;
    if (member.phase == Phase::kDraining)
      generation.overdue = drain_end();
  }
  const bool serves = std::any_of(pool.generations.begin(), pool.generations.end(),
                                  [](const auto &each) { return each->phase == Phase::kServing; });
  return inheritance_.refused && serves ? success() : start_generation(pool);
}

void Master::ready() {
  if (std::exchange(started_, true) || stop_ != Stop::kNo)
    return;
  ready_timer_.stop();
  sys::log().notice("fpm is running, pid {}", ::getpid());
  sys::log().notice("ready to handle connections");
  sys::log().set_echo(std::nullopt);
  sys::sd_tell(fmt::format("READY=1\nMAINPID={}\nSTATUS=Ready to handle connections", ::getpid()));
  if (readiness_.valid()) {
    const char ok = 0;
    (void)!::write(readiness_.get(), &ok, 1);
    readiness_.reset();
    leave_terminal_();
  }
  tell_status();
}

void Master::give_up(const std::string &why) {
  if (exit_code_ != 0)
    return;
  say_lines(why);
  sys::log().error("FPM initialization failed");
  exit_code_ = kExitConfig;
  stop(Stop::kFast);
}

int Master::run() {
  sys::set_title("tqfpm: master process (" + options_.config_path + ")");
  if (auto status = start(); !status.ok())
    give_up(status.error().message);
  else {
    drop_unclaimed();
    watch_generations();
    reap(); // who has ended while the image before was going
    check_ready();
  }
  if (stop_ == Stop::kNo || any_left()) // a pool may have nothing but a timer at the moment
    loop_.run();
  if (exit_code_ == 0)
    sys::log().notice("exiting, bye-bye!");
  close_listeners();
  return exit_code_;
}

// Who connects now is told at once that nobody listens, instead of waiting in the backlog for nobody.
void Master::close_listeners() {
  for (const auto &pool : pools_) {
    const auto close = [](const config::Address &address, sys::Fd &listener, bool given) {
      if (listener.valid() && address.kind == config::Address::Kind::kUnix && !given)
        ::unlink(address.path.c_str());
      listener.reset();
    };
    close(pool->config.listen, pool->listener, pool->listener_given);
    close(pool->config.pm_status_listen, pool->status_listener, pool->status_listener_given);
  }
}

// --- stopping -------------------------------------------------------------------------------------------------------

void Master::stop(Stop how) {
  if (stop_ == how || stop_ == Stop::kFast)
    return;
  stop_ = how;
  check_.reset();
  sys::sd_tell("STOPPING=1");
  if (exit_code_ == 0)
    sys::log().notice("{}", how == Stop::kFast ? "Terminating ..." : "Finishing ...");
  for (const auto &[pool, generation] : all()) {
    if (how == Stop::kFast)
      (void)generation->tell(ipc::MasterMessage::kStop, 0, -1);
    else if (generation->phase != Phase::kDraining)
      drain(*pool, *generation, nullptr);
  }
  if (how == Stop::kFast)
    stop_timer_.at(Clock::now() + kFastStopPatience);
  for (const auto &pool : pools_)
    pool->restart.reset();
  start_again_.clear();
  close_listeners();
  if (!any_left())
    finish();
}

void Master::stop_overdue() {
  for (const auto &[pool, generation] : all()) {
    sys::log().warning("[pool {}] dispatcher {} does not end, killing it", pool->name, generation->pid);
    (void)::kill(generation->pid, SIGKILL);
  }
  stop_timer_.at(Clock::now() + kFastStopPatience);
}

void Master::finish() {
  loop_.stop();
}

// --- signals --------------------------------------------------------------------------------------------------------

void Master::reload() {
  if (stop_ != Stop::kNo)
    return;
  if (check_ != nullptr || quiet_turns_ >= 0) {
    check_again_ = check_ != nullptr;
    return;
  }
  sys::log().notice("Reloading in progress ...");
  sys::sd_tell("RELOADING=1\nMONOTONIC_USEC=" + sys::sd_monotonic_usec());
  auto check = Check::start(loop_, command_);
  if (check.ok())
    check_ = std::move(check.value());
  else
    refuse(check.error().message);
}

void Master::refuse(const std::string &why) {
  say_lines("the reload is refused and everything goes on as it was: " + why);
  sys::sd_tell("READY=1\nSTATUS=Reload refused, see the log");
}

void Master::checked(const Status &valid) {
  check_.reset();
  const bool again = std::exchange(check_again_, false);
  if (stop_ != Stop::kNo)
    return;
  if (!valid.ok()) {
    refuse(valid.error().message);
    if (again) // what has been read may be old by now; the new image reads it anew
      reload();
    return;
  }
  // What has been caught already is obeyed in the turns to come; what comes from now on is the new image's.
  sigset_t all;
  ::sigfillset(&all);
  (void)::sigprocmask(SIG_SETMASK, &all, &mask_);
  quiet_turns_ = 0;
  exec_timer_.at(Clock::now());
}

void Master::execute_when_quiet() {
  constexpr int kQuietTurns = 3; // libev takes signals in one turn and tells of them in the next, at the latest
  if (stop_ == Stop::kNo && ++quiet_turns_ < kQuietTurns) {
    exec_timer_.at(Clock::now());
    return;
  }
  quiet_turns_ = -1;
  if (stop_ == Stop::kNo) {
    pid_file_.forget();
    const Error failure = reexec(command_, config_, pools_, processes_fd_.get());
    pid_file_.adopt(config_.global.pid);
    refuse(failure.message);
  }
  (void)::sigprocmask(SIG_SETMASK, &mask_, nullptr);
}

namespace {

// None where there is no such log, or where it cannot be opened.
sys::Fd open_again(const std::string &pool, const char *which, const std::string &path) {
  if (path.empty())
    return {};
  auto fd = sys::open_log(path);
  if (!fd.ok()) {
    sys::log().error("[pool {}] {}; the old one stays open", pool, fd.error().message);
    return {};
  }
  sys::log().notice("{} log file re-opened", which);
  return std::move(fd.value());
}

} // namespace

void Master::reopen_logs() {
  const bool own_file = uses_error_log(options_, config_.global) && !sys::log().is_syslog();
  if (sys::log().is_syslog())
    sys::log().notice("error log file re-opened");
  if (own_file) {
    auto fd = sys::open_log(config_.global.error_log);
    if (fd.ok()) {
      sys::log().take(std::move(fd.value()));
      sys::log().notice("error log file re-opened");
    } else {
      sys::log().error("{}; the old one stays open", fd.error().message);
    }
  }
  for (const auto &[pool, generation] : all()) {
    ipc::MasterRequest request{ipc::MasterMessage::kReopen, 0, 0};
    std::vector<int> fds;
    if (own_file) {
      request.mask |= 1;
      fds.push_back(sys::log().fd());
    }
    const bool slow_log = pool->config.request_slowlog_timeout > Duration::zero();
    const sys::Fd access = open_again(pool->name, "access", pool->config.access_log);
    const sys::Fd slow = open_again(pool->name, "slow", slow_log ? pool->config.slowlog : "");
    if (access.valid()) {
      request.mask |= 2;
      fds.push_back(access.get());
    }
    if (slow.valid()) {
      request.mask |= 4;
      fds.push_back(slow.get());
    }
    if (!sys::send_packet(generation->control.get(), &request, sizeof request, fds))
      sys::log().warning("[pool {}] dispatcher {} was not told to reopen its logs: {}", pool->name, generation->pid,
                         strerror(errno));
  }
}

void Master::tell_status() {
  std::uint64_t busy = 0;
  std::uint64_t idle = 0;
  std::uint64_t requests = 0;
  std::uint64_t slow = 0;
  for (const auto &pool : pools_) {
    if (pool->scoreboard == nullptr) // a pool that finishes
      continue;
    const auto *board = static_cast<const status::Scoreboard *>(pool->scoreboard->data());
    busy += board->get(status::Metric::busy_workers);
    idle += board->get(status::Metric::idle_workers);
    requests += board->get(status::Metric::requests);
    slow += board->get(status::Metric::slow_requests);
  }
  const auto interval = config_.global.systemd_interval;
  if (interval <= Duration::zero())
    return;
  const double rate = static_cast<double>(requests - last_requests_) / std::chrono::duration<double>(interval).count();
  last_requests_ = requests;
  sys::sd_tell(fmt::format("STATUS=Processes active: {}, idle: {}, Requests: {}, slow: {}, Traffic: {:.3g}req/sec",
                           busy, idle, requests, slow, rate));
  status_timer_.at(Clock::now() + interval);
}

} // namespace tqfpm::master
