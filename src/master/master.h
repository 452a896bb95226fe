// The master process: reads the configuration, holds the listening sockets, starts and watches generations, obeys
// signals.
#pragma once

#include <csignal>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "base/backoff.h"
#include "config/load.h"
#include "master/check.h"
#include "master/generation.h"
#include "master/options.h"
#include "master/startup.h"
#include "status/scoreboard.h"
#include "sys/event_loop.h"
#include "sys/files.h"
#include "sys/shared_memory.h"

namespace tqfpm::master {

// A pool as the master sees it; it outlives its generations.
struct Pool {
  std::string name;
  config::PoolConfig config;
  sys::Fd listener;
  bool listener_given = false; // by systemd: its file is not ours to remove
  sys::Fd status_listener;     // pm.status_listen
  bool status_listener_given = false;
  sys::Fd scoreboard_fd;
  std::unique_ptr<sys::Mapping> scoreboard;
  std::vector<std::unique_ptr<Generation>> generations; // oldest first
  unsigned last_number = 0;
  Backoff backoff{milliseconds(100), seconds(30), seconds(10)};
  std::unique_ptr<sys::TimerWatch> restart;
  bool wants_renewal = false; // its dispatcher has said kRenew, and no newer one serves yet
  bool removed = false;       // not in the configuration any more: goes when its generations have gone
};

// What goes from one image of the master to the next in a reload: written by handover.cc, read back by it.
struct Inheritance {
  bool reloaded = false;
  bool refused = false;    // the configuration is the image's before: the new one cannot be used
  std::string config_text; // of the image before, a dump
  std::vector<InheritedSocket> sockets;
  struct Member {
    std::string pool;
    unsigned number = 0;
    pid_t pid = -1;
    Phase phase = Phase::kServing;
    sys::Fd control;
  };
  std::vector<Member> generations;
  struct Board {
    std::string pool;
    sys::Fd fd;
  };
  std::vector<Board> scoreboards;
  sys::Fd processes; // status::ProcessBoard
};

class Master {
public:
  Master(const Options &options, std::vector<std::string> command, config::Config config, Inheritance inheritance);
  ~Master();
  // Runs until it is told to stop. The exit code.
  int run();
  // The write end of the pipe on which the calling shell's process waits (with daemonize); `leave` is called once
  // it has been told.
  void report_readiness_to(sys::Fd fd, std::function<void()> leave) {
    background_ = true;
    readiness_ = std::move(fd);
    leave_terminal_ = std::move(leave);
  }

private:
  enum class Stop { kNo, kFast, kGraceful };

  // startup
  Status start();
  Status open_pid_file();
  Status open_process_board();
  Status open_pools();
  Status adopt(Pool &pool);
  Status open_pool(Pool &pool);
  void check_ready();
  void ready();
  void give_up(const std::string &why);
  // generations
  Generation &add_generation(Pool &pool, pid_t pid, unsigned number, sys::Fd control);
  Status start_generation(Pool &pool);
  void control_readable(Pool &pool, Generation &generation);
  void heard(Pool &pool, Generation &generation, const ipc::DispatcherReport &report);
  void serving(Pool &pool, Generation &generation);
  void drop_unclaimed();
  void drain(Pool &pool, Generation &old, const Generation *successor);
  void reap();
  void generation_ended(Pool &pool, Generation &generation, int status);
  void restart_later(Pool &pool, TimePoint started);
  [[nodiscard]] std::vector<std::pair<Pool *, Generation *>> all() const;
  [[nodiscard]] bool any_left() const;
  void forget_ended();
  // signals
  void stop(Stop how);
  void reload();
  void checked(const Status &valid);
  void execute_when_quiet();
  void refuse(const std::string &why);
  void reopen_logs();
  void stop_overdue();
  void finish();
  void close_listeners();
  void tell_status();
  void watch_generations();
  void end_silent(const Pool &pool, Generation &generation, TimePoint now);
  std::uint64_t drain_limit() const;
  [[nodiscard]] TimePoint drain_end() const;

  Options options_;
  std::vector<std::string> command_; // as it was called, for a reload
  config::Config config_;
  Inheritance inheritance_;
  sys::EventLoop loop_;
  std::vector<std::unique_ptr<Pool>> pools_;
  std::vector<std::unique_ptr<Generation>> ended_; // destroyed when no callback of theirs runs
  std::vector<Pool *> start_again_;                // whose generation could not even be started
  sys::PidFile pid_file_;
  sys::Fd null_;
  sys::Fd processes_fd_;
  std::unique_ptr<sys::Mapping> processes_; // status::ProcessBoard
  bool background_ = false;
  sys::Fd readiness_;
  std::function<void()> leave_terminal_;
  bool started_ = false; // all pools have served once
  Stop stop_ = Stop::kNo;
  int exit_code_ = 0;
  std::uint64_t last_requests_ = 0;
  std::unique_ptr<Check> check_; // of a reload that has been asked for
  bool check_again_ = false;     // another one was asked for meanwhile
  int quiet_turns_ = -1;         // with signals blocked, before the exec; -1: there is none to come
  sigset_t mask_{};              // of signals, otherwise
  std::vector<std::unique_ptr<sys::SignalWatch>> signals_;
  sys::TimerWatch stop_timer_;
  sys::TimerWatch ready_timer_;
  sys::TimerWatch status_timer_;
  sys::TimerWatch exec_timer_;
  sys::TimerWatch watch_timer_;
};

// handover.cc: re-exec in place.
// Replaces this process by a new image of the program with the same arguments. Returns only when that fails.
Error reexec(const std::vector<std::string> &command, const config::Config &config,
             const std::vector<std::unique_ptr<Pool>> &pools, int processes);
// What the image before has left in the environment; the variable is removed.
Inheritance take_inheritance();

} // namespace tqfpm::master
