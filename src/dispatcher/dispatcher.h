// The process of one pool: what the master and signals say, and the round that everything happens in.
//
// Watches only note; all work is done in a round once in each turn (see round.h). So nothing is called back inside of a
// call.
#pragma once

#include <sys/resource.h>

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "config/load.h"
#include "dispatcher/access_log.h"
#include "dispatcher/requests.h"
#include "dispatcher/round.h"
#include "ipc/control.h"
#include "spawner/spawner.h"
#include "status/process_board.h"
#include "status/scoreboard.h"
#include "sys/event_loop.h"
#include "sys/shared_memory.h"
#include "web/front.h"
#include "workers/workers.h"

namespace tqfpm::dispatcher {

// What `tqfpm --dispatcher` is started with, besides the descriptors of ipc::DispatcherFd.
struct DispatcherStart {
  config::Config config; // [global] and one pool
  spawner::PhpOptions php;
  std::vector<std::string> folders;      // in the root of what workers see, for spawner::php_command()
  std::optional<sys::Identity> own_user; // the dispatcher's; none when not root
  std::optional<rlimit> files;           // RLIMIT_NOFILE, as it was for the master
};

class Dispatcher {
public:
  Dispatcher(sys::EventLoop &loop, const DispatcherStart &start, spawner::SpawnerProcess spawner, bool fork_mode,
             sys::Mapping scoreboard, sys::Mapping processes);
  ~Dispatcher();
  Dispatcher(const Dispatcher &) = delete;
  Dispatcher &operator=(const Dispatcher &) = delete;
  // Runs until the master says stop, or all is drained. The exit code.
  int run();

private:
  void turn();
  void on(const workers::Event &event, TimePoint now);
  void begin_serving();
  void hear_master();
  void obey(const ipc::MasterRequest &request, std::vector<sys::Fd> fds);
  void report(ipc::DispatcherMessage type, const std::string &text);
  void open_logs();
  void reopen(std::uint32_t mask, std::vector<sys::Fd> fds);
  void drain(sys::Fd handover, TimePoint deadline);
  void stop(int code);
  void watch_signals();
  status::Scoreboard &board() { return *static_cast<status::Scoreboard *>(scoreboard_.data()); }

  sys::EventLoop &loop_;
  const config::PoolConfig &pool_;
  sys::Mapping scoreboard_;
  sys::Mapping processes_;
  AccessLog access_log_;
  sys::Fd listen_;
  sys::Fd status_listen_;
  sys::Fd control_;
  web::Front front_;
  workers::Workers workers_;
  Requests requests_;
  Round round_;
  struct Noted {
    bool control = false;
    bool quit = false; // SIGQUIT
    bool stop = false; // SIGTERM
  };
  Noted noted_;
  bool draining_ = false;
  bool stopping_ = false;
  int exit_code_ = 0;
  std::unique_ptr<sys::IoWatch> control_watch_; // after control_
  std::vector<std::unique_ptr<sys::SignalWatch>> signals_;
  sys::TimerWatch drain_timer_;
};

// The role `tqfpm --dispatcher`; returns the exit code.
int dispatcher_main(const spawner::PhpOptions &php);

} // namespace tqfpm::dispatcher
