// All that web servers see of a pool: its listening sockets and their connections.
//
// Passive: watches and timers only note. A round calls work(), looks at the requests of touched() and acts, until
// work() says false, and ends with settle().
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "config/types.h"
#include "status/scoreboard.h"
#include "sys/event_loop.h"
#include "sys/fd.h"
#include "web/allowed_clients.h"
#include "web/client.h"
#include "web/handover.h"

namespace tqfpm::web {

struct FrontSettings {
  const config::PoolConfig &pool;
  status::Scoreboard &scoreboard;
  std::size_t most = 0;    // connections at the same time
  std::size_t reserve = 0; // descriptors that are kept for workers where they have become rare
};

class Front {
public:
  Front(sys::EventLoop &loop, const FrontSettings &settings);
  ~Front();
  Front(const Front &) = delete;
  Front &operator=(const Front &) = delete;

  // Begins to accept. `apart`: pm.status_listen, or none.
  void listen(sys::Fd listener, sys::Fd apart);
  // Accepts nothing more; idle connections go to the next generation, or are closed without one, and so do others when
  // they become idle. Who makes no progress is cut soon.
  void drain(sys::Fd handover);
  // Takes idle connections of a generation before this one.
  void adopt(sys::Fd handover) { inheritance_.from(std::move(handover)); }

  // Accepts, reads, parses, sends: what has been noted. False: there was nothing to do.
  bool work(TimePoint now);
  // The connections that this round has concerned; more may come while they are looked at.
  [[nodiscard]] const std::vector<Client *> &touched() const { return notes_.touched; }
  [[nodiscard]] std::vector<const Client *> clients() const;
  // nullptr: it has gone.
  [[nodiscard]] Client *find(std::uint64_t key) const;
  // The end of a round.
  void settle(TimePoint now);

  // memory.buffers is used up: a request goes to a worker with as much of its body as is there.
  [[nodiscard]] bool pressed() const { return notes_.pressure != Pressure::kNone; }
  [[nodiscard]] std::size_t connections() const { return clients_.size(); }
  [[nodiscard]] std::size_t held() const { return held_; } // bytes, by all connections
  // Is a request on its way here that will need a worker?
  [[nodiscard]] bool expects() const;
  // A drain waits for nobody here; who only has to take notice of the end is not waited for.
  [[nodiscard]] bool empty() const;

private:
  struct Listener {
    sys::Fd fd;
    bool ready = false;
    std::size_t expected = 1;            // connections in a turn, as it has been: more are not looked for
    int turns = 0;                       // in which as many have come
    std::unique_ptr<sys::IoWatch> watch; // after fd
  };
  void open(Listener &listener, sys::Fd fd);
  bool accept_from(Listener &listener, bool apart, TimePoint now);
  void add(sys::Fd fd, const std::string &peer, bool apart);
  void cannot_accept(int error, TimePoint now);
  [[nodiscard]] bool has_room() const;
  bool expire(TimePoint now);
  void complain(Client &client);
  void settle(Client &client, TimePoint now);
  void hand_over(Client &client, TimePoint now);
  void update_pressure();
  [[nodiscard]] Pressure pressure() const;
  void watch_listeners(TimePoint now);

  sys::EventLoop &loop_;
  const config::PoolConfig &pool_;
  status::Scoreboard &scoreboard_;
  ClientSettings settings_;
  AllowedClients allowed_;
  std::size_t most_;
  std::size_t reserve_;
  std::size_t squeezed_ = SIZE_MAX; // connections, where descriptors have run out, until paused_until_
  std::unordered_map<std::uint64_t, std::unique_ptr<Client>> clients_;
  Notes notes_;
  std::uint64_t next_client_ = 1;
  std::size_t held_ = 0; // bytes, by all clients
  bool draining_ = false;
  Handover handover_;
  bool inherited_ = false; // there is something in inheritance_
  Inheritance inheritance_;
  Listener listener_;
  Listener apart_;
  TimePoint paused_until_{};
  TimePoint complained_{}; // about descriptors
  TimePoint next_late_ = TimePoint::max();
  sys::TimerWatch late_timer_; // somebody's time is up, or accepting goes on
  sys::TimerWatch wake_timer_; // there is more to do than one turn may
};

} // namespace tqfpm::web
