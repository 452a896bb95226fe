#include "dispatcher/dispatcher.h"

#include <sys/resource.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstring>

#include "status/worker_status.h"
#include "sys/log.h"
#include "sys/socket.h"

namespace tqfpm::dispatcher {

using status::Metric;

namespace {

constexpr int kMessagesPerTurn = 16;    // of the master
constexpr std::size_t kWorkerFds = 5;   // connection, channel, stdout, stderr, one on its way
constexpr std::size_t kOwnFds = 64;     // logs, listeners, templates, control
constexpr std::size_t kFewestMost = 16; // connections, however few descriptors there are

workers::Measures measures(const config::PoolConfig &pool, const status::AccessNeeds &needs) {
  const bool logged = !pool.access_log.empty();
  workers::Measures result;
  result.last = !pool.pm_status_path.empty();
  result.cpu = result.last || (logged && needs.cpu);
  result.times = logged && needs.times;
  result.memory = logged && needs.memory;
  return result;
}

// Connections leave enough descriptors for all workers, and for as many that end at the time.
web::FrontSettings front_settings(const config::PoolConfig &pool, status::Scoreboard &board) {
  rlimit limit{};
  std::size_t all = 1024;
  if (::getrlimit(RLIMIT_NOFILE, &limit) == 0)
    all = static_cast<std::size_t>(std::min<rlim_t>(limit.rlim_cur, 1U << 30));
  const std::size_t reserve = kOwnFds + 2 * kWorkerFds * static_cast<std::size_t>(pool.pm_max_children);
  std::size_t most = std::max(kFewestMost, all - std::min(all, reserve));
  if (pool.listen_max_connections > 0)
    most = std::min(most, static_cast<std::size_t>(pool.listen_max_connections));
  return {pool, board, most, kWorkerFds};
}

} // namespace

Dispatcher::Dispatcher(sys::EventLoop &loop, const DispatcherStart &start, spawner::SpawnerProcess spawner,
                       bool fork_mode, sys::Mapping scoreboard, sys::Mapping processes)
    : loop_(loop), pool_(start.config.pools.front()), scoreboard_(std::move(scoreboard)),
      processes_(std::move(processes)), access_log_(loop, pool_, board()), listen_(ipc::kListenFd),
      control_(ipc::kControlFd), front_(loop, front_settings(pool_, board())),
      workers_(loop, pool_,
               workers::WorkersSettings{fork_mode, measures(pool_, access_log_.needs()), start.config.global, board(),
                                        *static_cast<status::ProcessBoard *>(processes_.data())},
               std::move(spawner)),
      requests_(loop, Requests::Parts{start.config, start.php, start.folders, board(), front_, workers_}, access_log_),
      round_(front_, workers_, requests_), drain_timer_(loop, [this] { noted_.stop = true; }) {
  open_logs();
  if (!pool_.pm_status_listen.text.empty())
    status_listen_ = sys::Fd(ipc::kStatusListenFd);
  control_watch_ = std::make_unique<sys::IoWatch>(loop_, control_.get(), [this](unsigned) { noted_.control = true; });
  control_watch_->set(sys::kReadable);
  watch_signals();
  loop_.before_wait([this] { turn(); });
}

Dispatcher::~Dispatcher() {
  sys::log().sink().detach();
  sys::log().on_lost({});
}

void Dispatcher::watch_signals() {
  const auto on_signal = [this](int number, std::function<void()> note) {
    signals_.push_back(std::make_unique<sys::SignalWatch>(loop_, number, std::move(note)));
  };
  on_signal(SIGCHLD, [this] { workers_.note_children(); });
  on_signal(SIGTERM, [this] { noted_.stop = true; });
  on_signal(SIGQUIT, [this] { noted_.quit = true; });
  for (const int number : {SIGINT, SIGHUP, SIGUSR1, SIGUSR2}) // of a terminal: the master says what to do
    on_signal(number, [] {});
}

void Dispatcher::open_logs() {
  sys::log().sink().attach(loop_);
  sys::log().on_lost([this](std::uint64_t lines) { board().add(Metric::log_lines_lost, lines); });
  if (!pool_.access_log.empty())
    access_log_.use(sys::Fd(ipc::kAccessLogFd));
  if (pool_.request_slowlog_timeout > Duration::zero())
    workers_.slow_log().use(sys::Fd(ipc::kSlowLogFd));
}

int Dispatcher::run() {
  workers_.begin();
  loop_.run();
  return exit_code_;
}

// --- the round ------------------------------------------------------------------------------------------------------

void Dispatcher::turn() {
  const TimePoint now = loop_.now();
  hear_master();
  workers::Event event;
  while (!stopping_ && round_.next(event, now))
    on(event, now);
  if (stopping_)
    return;
  round_.settle(now);
  if (!draining_) {
    board().set(Metric::connections, front_.connections());
  } else if (round_.finish()) {
    stopping_ = true;
    loop_.stop();
  }
}

void Dispatcher::on(const workers::Event &event, TimePoint now) {
  using Kind = workers::Event::Kind;
  switch (event.kind) {
  case Kind::kReady:
    begin_serving();
    return;
  case Kind::kFailed:
    report(ipc::DispatcherMessage::kFailed, event.text);
    stop(1);
    return;
  case Kind::kWornOut:
    report(ipc::DispatcherMessage::kRenew, event.text.empty() ? "the spawner has gone" : event.text);
    return;
  case Kind::kVariantFailed:
    requests_.variant_failed(event.variant, now);
    return;
  case Kind::kFacts:
    requests_.learn(event.facts);
    return;
  case Kind::kWantsStatus:
    workers_.send_status(event.worker, status::fpm_status(requests_.pool_status().state(true, false, now)));
    return;
  default: // the round has seen to it
    return;
  }
}

void Dispatcher::begin_serving() {
  report(ipc::DispatcherMessage::kReady, "");
  if (!draining_)
    front_.listen(std::move(listen_), std::move(status_listen_));
}

// --- the master -----------------------------------------------------------------------------------------------------

void Dispatcher::report(ipc::DispatcherMessage type, const std::string &text) {
  ipc::DispatcherReport message{type, 0, {}};
  message.length = static_cast<std::uint32_t>(std::min(text.size(), sizeof message.text));
  memcpy(message.text, text.data(), message.length);
  if (!sys::send_packet(control_.get(), &message, sizeof message, {}))
    sys::log().warning("[pool {}] cannot report to the master: {}", pool_.name, strerror(errno));
}

void Dispatcher::hear_master() {
  if (std::exchange(noted_.stop, false))
    stop(0);
  if (std::exchange(noted_.quit, false))
    drain(sys::Fd(), TimePoint::max());
  if (!std::exchange(noted_.control, false))
    return;
  for (int i = 0; i < kMessagesPerTurn && !stopping_; ++i) {
    ipc::MasterRequest request{};
    sys::Packet packet = sys::receive_packet(control_.get(), &request, sizeof request);
    if (packet.length < 0 && errno == EAGAIN)
      return;
    if (packet.length != static_cast<ssize_t>(sizeof request)) {
      // The master has gone: what has come is finished, then nothing holds the address any more.
      control_watch_->set(0);
      sys::log().warning("[pool {}] the master has gone: finishing", pool_.name);
      drain(sys::Fd(), TimePoint::max());
      return;
    }
    obey(request, std::move(packet.fds));
  }
}

void Dispatcher::obey(const ipc::MasterRequest &request, std::vector<sys::Fd> fds) {
  switch (request.type) {
  case ipc::MasterMessage::kDrain:
    drain(fds.empty() ? sys::Fd() : std::move(fds.front()),
          request.argument == 0 ? TimePoint::max() : loop_.now() + milliseconds(request.argument));
    return;
  case ipc::MasterMessage::kStop:
    stop(0);
    return;
  case ipc::MasterMessage::kPing:
    report(ipc::DispatcherMessage::kAlive, "");
    return;
  case ipc::MasterMessage::kReopen:
    reopen(request.mask, std::move(fds));
    return;
  case ipc::MasterMessage::kAdopt:
    if (!fds.empty())
      front_.adopt(std::move(fds.front()));
    return;
  }
}

void Dispatcher::reopen(std::uint32_t mask, std::vector<sys::Fd> fds) {
  std::size_t next = 0;
  for (std::uint32_t bit = 0; bit < 3 && next < fds.size(); ++bit) {
    if ((mask & 1U << bit) == 0)
      continue;
    sys::Fd fd = std::move(fds[next++]);
    if (bit == 0)
      sys::log().take(std::move(fd));
    else if (bit == 1)
      access_log_.use(std::move(fd));
    else
      workers_.slow_log().use(std::move(fd));
  }
}

// --- the end --------------------------------------------------------------------------------------------------------

// A second order, or the master's end, shortens it at the most.
void Dispatcher::drain(sys::Fd handover, TimePoint deadline) {
  drain_timer_.no_later_than(deadline);
  if (std::exchange(draining_, true))
    return;
  if (control_watch_->events() != 0) // the master is there
    report(ipc::DispatcherMessage::kDraining, "");
  listen_.reset();
  status_listen_.reset();
  requests_.drain();
  front_.drain(std::move(handover));
}

void Dispatcher::stop(int code) {
  if (std::exchange(stopping_, true))
    return;
  exit_code_ = code;
  workers_.kill_all();
  loop_.stop();
}

} // namespace tqfpm::dispatcher
