#include "web/front.h"

#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "sys/log.h"
#include "sys/socket.h"

namespace tqfpm::web {

using status::Metric;

namespace {

constexpr std::size_t kAcceptsPerTurn = 64;
// To ask for a connection that is not there costs as much as to take one; if one is, the loop tells in the next turn.
constexpr int kFullTurns = 4;
constexpr Duration kPause = seconds(1);          // accepting, where descriptors have run out
constexpr Duration kComplaints = seconds(60);    // about that, at most one in this time
constexpr Duration kDrainHead = seconds(2);      // a drain's patience: with who has begun a request,
constexpr Duration kDrainProgress = seconds(30); // ... with a body, or with who takes no answer
constexpr Duration kHandoverRetry = milliseconds(10);

ClientSettings client_settings(const config::PoolConfig &pool) {
  ClientSettings settings;
  settings.pool = pool.name;
  settings.limits.request_buffer = static_cast<std::size_t>(pool.request_buffer_size.value);
  settings.limits.response_buffer = static_cast<std::size_t>(pool.response_buffer_size.value);
  settings.limits.head = pool.client_header_timeout;
  settings.limits.body = pool.client_body_timeout;
  settings.limits.send = pool.client_send_timeout;
  settings.advertised = static_cast<std::size_t>(pool.pm_max_children);
  return settings;
}

Duration shorter(Duration limit, Duration most) {
  return limit == Duration::zero() ? most : std::min(limit, most);
}

bool is_out_of_descriptors(int error) {
  return error == EMFILE || error == ENFILE || error == ENOMEM || error == ENOBUFS;
}

} // namespace

Front::Front(sys::EventLoop &loop, const FrontSettings &settings)
    : loop_(loop), pool_(settings.pool), scoreboard_(settings.scoreboard), settings_(client_settings(settings.pool)),
      allowed_(settings.pool), most_(std::max<std::size_t>(settings.most, 1)), reserve_(settings.reserve),
      inheritance_(loop, inherited_), late_timer_(loop, [] {}), wake_timer_(loop, [] {}) {}

Front::~Front() = default;

void Front::open(Listener &listener, sys::Fd fd) {
  listener.fd = std::move(fd);
  listener.ready = true;
  sys::prepare_listener(listener.fd.get());
  listener.watch =
      std::make_unique<sys::IoWatch>(loop_, listener.fd.get(), [&listener](unsigned) { listener.ready = true; });
}

void Front::listen(sys::Fd listener, sys::Fd apart) {
  open(listener_, std::move(listener));
  if (apart.valid())
    open(apart_, std::move(apart));
}

Client *Front::find(std::uint64_t key) const {
  const auto found = clients_.find(key);
  return found == clients_.end() ? nullptr : found->second.get();
}

std::vector<const Client *> Front::clients() const {
  std::vector<const Client *> all;
  for (const auto &[key, client] : clients_)
    all.push_back(client.get());
  return all;
}

bool Front::empty() const {
  return std::all_of(clients_.begin(), clients_.end(), [](const auto &each) {
    return each.second->requests().empty() &&
           (each.second->state() == ClientState::kLingering || each.second->state() == ClientState::kClosed);
  });
}

bool Front::expects() const {
  return std::any_of(clients_.begin(), clients_.end(), [](const auto &each) { return each.second->expects(); });
}

// --- accepting ------------------------------------------------------------------------------------------------------

bool Front::has_room() const {
  return clients_.size() < std::min(most_, squeezed_);
}

bool Front::accept_from(Listener &listener, bool apart, TimePoint now) {
  if (!listener.fd.valid() || !std::exchange(listener.ready, false))
    return false;
  std::size_t accepted = 0;
  for (; accepted < listener.expected && has_room(); ++accepted) {
    sockaddr_storage address{};
    socklen_t length = sizeof address;
    sys::Fd fd(
        ::accept4(listener.fd.get(), reinterpret_cast<sockaddr *>(&address), &length, SOCK_CLOEXEC | SOCK_NONBLOCK));
    if (fd.valid()) {
      const std::string peer = address.ss_family == AF_UNIX ? "" : sys::peer_address(&address);
      if (allowed_.admits(peer)) {
        add(std::move(fd), peer, apart);
        scoreboard_.add(Metric::accepted_connections);
      }
    } else if (errno != EINTR && errno != ECONNABORTED) {
      if (is_out_of_descriptors(errno))
        cannot_accept(errno, now);
      listener.expected = std::max<std::size_t>(accepted, 1);
      listener.turns = 0;
      return true;
    }
  }
  if (accepted == listener.expected && ++listener.turns == kFullTurns) {
    listener.expected = std::min(listener.expected * 2, kAcceptsPerTurn);
    listener.turns = 0;
  }
  return true;
}

// Some connections have to end before others are accepted, so that workers have descriptors, too.
void Front::cannot_accept(int error, TimePoint now) {
  paused_until_ = now + kPause;
  squeezed_ = std::max<std::size_t>(clients_.size() - std::min(clients_.size(), reserve_), 1);
  if (complained_ != TimePoint{} && now < complained_ + kComplaints)
    return;
  complained_ = now;
  sys::log().warning("[pool {}] cannot accept connections: {}; {} are open, others wait in the backlog", pool_.name,
                     strerror(error), clients_.size());
}

void Front::add(sys::Fd fd, const std::string &peer, bool apart) {
  const std::uint64_t key = next_client_++;
  clients_.emplace(key, std::make_unique<Client>(loop_, notes_, settings_, key, std::move(fd), peer, apart));
}

void Front::watch_listeners(TimePoint now) {
  if (now >= paused_until_)
    squeezed_ = SIZE_MAX;
  const unsigned events = has_room() ? sys::kReadable : 0U;
  for (Listener *each : {&listener_, &apart_}) {
    if (each->watch != nullptr)
      each->watch->set(events);
  }
  if (now < paused_until_)
    late_timer_.no_later_than(paused_until_);
}

// --- a round --------------------------------------------------------------------------------------------------------

bool Front::work(TimePoint now) {
  std::reverse(notes_.ready.begin(),
               notes_.ready.end()); // libev tells the last descriptor first: first come, first served
  bool any = expire(now);
  for (Client *each : notes_.touched)
    each->resume();
  any = accept_from(listener_, false, now) || any;
  any = accept_from(apart_, true, now) || any;
  if (std::exchange(inherited_, false)) {
    for (Inheritance::Connection &each : inheritance_.take(kAcceptsPerTurn))
      add(std::move(each.fd), each.peer, false);
    any = true;
  }
  any = any || !notes_.ready.empty();
  const std::vector<Client *> ready = std::exchange(notes_.ready, {});
  for (Client *each : ready) {
    each->work(now);
    complain(*each);
  }
  return any;
}

void Front::complain(Client &client) {
  const std::string why = client.take_complaint();
  if (why.empty())
    return;
  scoreboard_.add(Metric::protocol_errors);
  sys::log().warning("[pool {}] closed the connection of {}: {}", pool_.name,
                     client.peer().empty() ? "a local web server" : client.peer(), why);
}

bool Front::expire(TimePoint now) {
  if (now < next_late_)
    return false;
  next_late_ = TimePoint::max();
  for (const auto &[key, client] : clients_) {
    if (client->due() > now)
      next_late_ = std::min(next_late_, client->due());
    else if (client->expire(now) != Late::kNothing) // and settle() finds the next time
      scoreboard_.add(Metric::client_timeouts);
  }
  late_timer_.at(next_late_);
  return true;
}

void Front::settle(Client &client, TimePoint now) {
  if (draining_ && (client.idle() || client.apart()))
    hand_over(client, now);
  const std::size_t before = client.charged();
  client.settle(now);
  held_ += client.charged() - before;
  next_late_ = std::min(next_late_, client.due());
  if (!client.finished()) {
    if (client.state() == ClientState::kClosed)
      client.note(); // its requests end in the next round
    return;
  }
  held_ -= client.charged();
  clients_.erase(client.key());
}

void Front::settle(TimePoint now) {
  const std::vector<Client *> touched = std::exchange(notes_.touched, {});
  for (Client *each : touched)
    settle(*each, now);
  update_pressure();
  watch_listeners(now);
  if (next_late_ != TimePoint::max())
    late_timer_.no_later_than(next_late_);
  if (!notes_.ready.empty() || !notes_.touched.empty())
    wake_timer_.at(now);
}

// Who was not read for lack of memory is looked at again when there is some, and the other way round.
void Front::update_pressure() {
  const Pressure before = std::exchange(notes_.pressure, pressure());
  if (notes_.pressure == before)
    return;
  if (before == Pressure::kNone)
    sys::log().warning("[pool {}] memory.buffers is used up: more of bodies and answers is taken when there is room",
                       pool_.name);
  for (const auto &[key, client] : clients_)
    client->note();
}

// It is left an eighth below where it began.
Pressure Front::pressure() const {
  const auto limit = static_cast<std::size_t>(pool_.memory_buffers.value);
  const auto over = [&](std::size_t bound, Pressure level) {
    return limit > 0 && held_ > (notes_.pressure >= level ? bound - limit / 8 : bound);
  };
  if (over(limit + limit / 4, Pressure::kFull))
    return Pressure::kFull;
  return over(limit, Pressure::kHigh) ? Pressure::kHigh : Pressure::kNone;
}

// --- a drain --------------------------------------------------------------------------------------------------------

void Front::drain(sys::Fd handover) {
  draining_ = true;
  for (Listener *each : {&listener_, &apart_}) {
    each->watch.reset();
    each->fd.reset();
  }
  handover_.to(std::move(handover));
  settings_.limits.head = shorter(settings_.limits.head, kDrainHead);
  settings_.limits.body = shorter(settings_.limits.body, kDrainProgress);
  settings_.limits.send = shorter(settings_.limits.send, kDrainProgress);
  for (const auto &[key, client] : clients_)
    client->note();
}

// With whatever the web server may just have written.
void Front::hand_over(Client &client, TimePoint now) {
  if (client.state() == ClientState::kClosed)
    return;
  if (!client.apart()) {
    const Handover::Outcome outcome = handover_.give(client.fd(), client.peer());
    if (outcome == Handover::Outcome::kFull) {
      client.call_back(now + kHandoverRetry);
      return;
    }
  }
  client.drop();
}

} // namespace tqfpm::web
