#include "dispatcher/dispatcher.h"

#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstring>

#include "sys/log.h"
#include "sys/socket.h"

namespace tqfpm::dispatcher {

using status::Metric;

namespace {

constexpr std::size_t kAcceptsPerTurn = 64;
constexpr Duration kHousekeeping = seconds(1);
constexpr Duration kLinger = seconds(5);

ClientSettings client_settings(const config::PoolConfig &pool, bool status_only) {
  ClientSettings settings;
  settings.status_only = status_only;
  settings.pool = pool.name;
  settings.request_buffer = static_cast<std::size_t>(pool.request_buffer_size.value);
  settings.response_buffer = static_cast<std::size_t>(pool.response_buffer_size.value);
  settings.advertised = static_cast<std::size_t>(pool.pm_max_children);
  return settings;
}

status::AccessFormat access_format(const config::PoolConfig &pool) {
  auto format = status::AccessFormat::compile(pool.access_format);
  TQFPM_ASSERT(format.ok()); // checked when the configuration was loaded
  return std::move(format.value());
}

Measures measures(const config::PoolConfig &pool, const status::AccessFormat &format) {
  const bool logged = !pool.access_log.empty();
  Measures result;
  result.last = !pool.pm_status_path.empty();
  result.cpu = result.last || (logged && format.needs().cpu);
  result.times = logged && format.needs().times;
  result.memory = logged && format.needs().memory;
  return result;
}

// Something that differs between processes and starts: request ids must be unique in a log.
std::string fresh_prefix() {
  return fmt::format("{:x}{:x}-", static_cast<unsigned>(::getpid()), static_cast<unsigned long>(std::time(nullptr)));
}

} // namespace

Dispatcher::Dispatcher(sys::EventLoop &loop, const DispatcherStart &start, spawner::SpawnerProcess spawner,
                       bool fork_mode, sys::Mapping scoreboard, sys::Mapping processes)
    : loop_(loop), global_(start.config.global), pool_(start.config.pools.front()), scoreboard_(std::move(scoreboard)),
      processes_(std::move(processes)), client_settings_(client_settings(pool_, false)),
      status_client_settings_(client_settings(pool_, true)), php_output_(global_, pool_, start.php), doorman_(pool_),
      access_format_(access_format(pool_)),
      queue_(static_cast<std::size_t>(pool_.queue_max_length), pool_.queue_max_wait), tag_prefix_(fresh_prefix()),
      config_(start.config), locked_values_(spawner::has_locked_values(pool_)), started_(Clock::now()),
      start_time_(std::time(nullptr)), listen_(ipc::kListenFd), control_(ipc::kControlFd),
      queue_timer_(loop, [this] { expire(); }), drain_timer_(loop, [this] { fast_stop(0); }),
      housekeeping_timer_(loop, [this] { housekeeping(); }),
      crew_(loop, *this, pool_,
            CrewSettings{fork_mode, measures(pool_, access_format_), global_, board(),
                         *static_cast<status::ProcessBoard *>(processes_.data())},
            std::move(spawner)),
      scripts_(loop, static_cast<ScriptsOwner &>(*this), pool_, start.php, start.folders) {
  open_logs();
  if (pool_.request_slowlog_timeout > Duration::zero())
    crew_.slow_log().use(sys::Fd(ipc::kSlowLogFd));
  if (!pool_.pm_status_listen.text.empty())
    status_listen_ = sys::Fd(ipc::kStatusListenFd);
  control_watch_ = std::make_unique<sys::IoWatch>(loop_, control_.get(), [this](unsigned) { control_readable(); });
  control_watch_->set(sys::kReadable);
  const auto on_signal = [this](int number, std::function<void()> action) {
    signals_.push_back(std::make_unique<sys::SignalWatch>(loop_, number, std::move(action)));
  };
  on_signal(SIGCHLD, [this] { crew_.reap(); });
  on_signal(SIGTERM, [this] { fast_stop(0); });
  on_signal(SIGINT, [] {}); // of a terminal: the master says what to do
  on_signal(SIGQUIT, [this] { drain(sys::Fd(), TimePoint::max()); });
  on_signal(SIGHUP, [] {});
  on_signal(SIGUSR1, [] {});
  on_signal(SIGUSR2, [] {});
  loop_.before_wait([this] { before_wait(); });
}

Dispatcher::~Dispatcher() {
  stopping_ = true;
  sys::log().sink().detach();
  sys::log().on_lost({});
  access_log_.detach();
  access_log_.finish(seconds(1));
}

void Dispatcher::open_logs() {
  sys::log().sink().attach(loop_);
  sys::log().on_lost([this](std::uint64_t lines) { board().add(Metric::log_lines_lost, lines); });
  access_log_.attach(loop_);
  access_log_.on_lost([this](std::uint64_t lines) {
    board().add(Metric::log_lines_lost, lines);
    sys::log().warning("[pool {}] {} lines of access.log were lost, it could not be written", pool_.name, lines);
  });
  if (!pool_.access_log.empty())
    access_log_.take(sys::Fd(ipc::kAccessLogFd));
}

int Dispatcher::run() {
  crew_.begin();
  if (!stopping_) // it cannot be stopped before it runs
    loop_.run();
  return exit_code_;
}

// --- accepting ------------------------------------------------------------------------------------------------------

void Dispatcher::listen_to(const sys::Fd &listener, std::unique_ptr<sys::IoWatch> &watch,
                           const ClientSettings &settings) {
  watch = std::make_unique<sys::IoWatch>(loop_, listener.get(), [this, &listener, &watch, &settings](unsigned) {
    accept_clients(listener, *watch, settings);
  });
  watch->set(sys::kReadable);
}

void Dispatcher::accept_clients(const sys::Fd &listener, sys::IoWatch &watch, const ClientSettings &settings) {
  for (std::size_t i = 0; i < kAcceptsPerTurn && listener.valid(); ++i) {
    sockaddr_storage address{};
    socklen_t length = sizeof address;
    sys::Fd fd(
        ::accept4(listener.get(), reinterpret_cast<sockaddr *>(&address), &length, SOCK_CLOEXEC | SOCK_NONBLOCK));
    if (!fd.valid()) {
      if (errno == EINTR || errno == ECONNABORTED)
        continue;
      if (errno == EMFILE || errno == ENFILE || errno == ENOMEM || errno == ENOBUFS) {
        sys::log().warning("[pool {}] cannot accept connections: {}; trying again in a second", pool_.name,
                           strerror(errno));
        watch.set(0);
        housekeeping_timer_.at(Clock::now() + kHousekeeping);
      }
      return;
    }
    const std::string peer = address.ss_family == AF_UNIX ? "" : sys::peer_address(&address);
    if (doorman_.admits(peer))
      accepted(std::move(fd), peer, settings);
  }
}

void Dispatcher::accepted(sys::Fd fd, const std::string &peer, const ClientSettings &settings) {
  board().add(Metric::accepted_connections);
  const std::uint64_t key = next_client_++;
  auto client = std::make_unique<Client>(loop_, static_cast<ClientOwner &>(*this), settings, key, std::move(fd), peer);
  Client &reference = *client;
  clients_.emplace(key, std::move(client));
  board().set(Metric::connections, clients_.size());
  reference.read(); // most often the request is there already
}

void Dispatcher::client_closed(Client &client) {
  dead_clients_.push_back(client.key());
}

void Dispatcher::client_lingers(Client &client) {
  lingering_.emplace_back(Clock::now() + kLinger, client.key());
  if (housekeeping_timer_.due() == TimePoint::max())
    housekeeping_timer_.at(Clock::now() + kHousekeeping);
}

void Dispatcher::client_idle(Client &client) {
  if (draining_)
    hand_over(client);
}

void Dispatcher::before_wait() {
  while (!dead_clients_.empty()) {
    const std::vector<std::uint64_t> dead = std::move(dead_clients_);
    dead_clients_.clear();
    for (const std::uint64_t key : dead)
      clients_.erase(key);
  }
  if (!draining_)
    board().set(Metric::connections, clients_.size());
  crew_.sweep();
  if (draining_)
    finish_if_drained();
}

// --- life -----------------------------------------------------------------------------------------------------------

void Dispatcher::crew_changed() {
  schedule();
}

void Dispatcher::crew_ready() {
  report(ipc::DispatcherMessage::kReady, "");
  if (draining_)
    return;
  listen_to(listen_, listen_watch_, client_settings_);
  if (status_listen_.valid())
    listen_to(status_listen_, status_listen_watch_, status_client_settings_);
  schedule();
}

void Dispatcher::crew_failed(const std::string &reason) {
  if (stopping_)
    return;
  report(ipc::DispatcherMessage::kFailed, reason);
  fast_stop(1);
}

void Dispatcher::crew_worn_out() {
  report(ipc::DispatcherMessage::kRenew, "the spawner has gone");
}

void Dispatcher::report(ipc::DispatcherMessage type, const std::string &text) {
  ipc::DispatcherReport message{type, 0, {}};
  message.length = static_cast<std::uint32_t>(std::min(text.size(), sizeof message.text));
  memcpy(message.text, text.data(), message.length);
  if (!sys::send_packet(control_.get(), &message, sizeof message, {}))
    sys::log().warning("[pool {}] cannot report to the master: {}", pool_.name, strerror(errno));
}

void Dispatcher::control_readable() {
  while (true) {
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
          request.argument == 0 ? TimePoint::max() : Clock::now() + milliseconds(request.argument));
    return;
  case ipc::MasterMessage::kStop:
    fast_stop(0);
    return;
  case ipc::MasterMessage::kReopen:
    reopen(request.mask, std::move(fds));
    return;
  case ipc::MasterMessage::kAdopt:
    if (!fds.empty())
      adopt(std::move(fds.front()));
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
      access_log_.take(std::move(fd));
    else
      crew_.slow_log().use(std::move(fd));
  }
}

void Dispatcher::drain(sys::Fd handover, TimePoint deadline) {
  draining_ = true;
  listen_watch_.reset();
  listen_.reset();
  if (control_watch_->events() != 0) // the master is there
    report(ipc::DispatcherMessage::kDraining, "");
  status_listen_watch_.reset();
  status_listen_.reset();
  handover_out_ = std::move(handover);
  drain_timer_.at(deadline);
  std::vector<Client *> all;
  for (const auto &[key, client] : clients_)
    all.push_back(client.get());
  for (Client *client : all) {
    if (client->idle() || client->status_only())
      hand_over(*client);
  }
  schedule();
  finish_if_drained();
}

// An idle connection goes to the next generation with whatever the web server may just have written; without one it is
// closed.
void Dispatcher::hand_over(Client &client) {
  if (!handover_out_.valid() || client.status_only()) {
    client.close();
    return;
  }
  char peer[64] = {};
  memcpy(peer, client.peer().data(), std::min(client.peer().size(), sizeof peer - 1));
  const int fds[] = {client.fd()};
  if (sys::send_packet(handover_out_.get(), peer, sizeof peer, fds))
    client.close(); // the other one's descriptor keeps the connection
  else if (errno != EAGAIN)
    handover_out_.reset(); // the successor has gone; this one stays with us until its web server closes it
  else
    housekeeping_timer_.at(Clock::now() + milliseconds(10));
}

void Dispatcher::adopt(sys::Fd handover) {
  (void)sys::set_nonblocking(handover.get(), true);
  auto heir = std::make_unique<Heir>();
  heir->from = std::move(handover);
  heir->watch = std::make_unique<sys::IoWatch>(loop_, heir->from.get(),
                                               [this, from = heir.get()](unsigned) { adopt_clients(*from); });
  heir->watch->set(sys::kReadable);
  heirs_.push_back(std::move(heir));
}

void Dispatcher::adopt_clients(Heir &heir) {
  for (std::size_t i = 0; i < kAcceptsPerTurn; ++i) {
    char peer[64] = {};
    sys::Packet packet = sys::receive_packet(heir.from.get(), peer, sizeof peer);
    if (packet.length < 0)
      return;
    if (packet.length == 0) {
      heir.watch->set(0);
      return;
    }
    if (packet.fds.size() == 1)
      accepted(std::move(packet.fds.front()), std::string(peer, strnlen(peer, sizeof peer)), client_settings_);
  }
}

void Dispatcher::finish_if_drained() {
  if (stopping_ || queue_.length() > 0)
    return;
  for (const auto &[key, client] : clients_) {
    if (client->open() && !client->lingering())
      return;
  }
  // Workers that still run a request whose client has gone, or that finish after END_REQUEST, are waited for.
  crew_.finish();
  if (crew_.empty()) {
    stopping_ = true;
    loop_.stop();
  }
}

void Dispatcher::fast_stop(int code) {
  if (stopping_)
    return;
  stopping_ = true;
  exit_code_ = code;
  crew_.kill_all();
  loop_.stop();
}

void Dispatcher::housekeeping() {
  for (const auto *watch : {&listen_watch_, &status_listen_watch_}) {
    if (*watch != nullptr)
      (*watch)->set(sys::kReadable);
  }
  const TimePoint now = Clock::now();
  std::erase_if(lingering_, [this, now](const auto &entry) {
    const auto found = clients_.find(entry.second);
    if (found != clients_.end() && entry.first <= now)
      found->second->close();
    return found == clients_.end() || entry.first <= now;
  });
  if (!lingering_.empty())
    housekeeping_timer_.at(now + kHousekeeping);
  if (!draining_)
    return;
  std::vector<Client *> idle;
  for (const auto &[key, client] : clients_) {
    if (client->idle())
      idle.push_back(client.get());
  }
  for (Client *client : idle)
    hand_over(*client);
}

} // namespace tqfpm::dispatcher
