// The facts of one php-cgi worker. What they mean for others is decided by the classes that change them.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "base/clock.h"
#include "pool/request.h"
#include "pool/worker_table.h"
#include "status/scoreboard.h"
#include "sys/event_loop.h"
#include "sys/fd.h"
#include "workers/connection.h"
#include "workers/output.h"
#include "workers/usage.h"

namespace tqfpm::workers {

// Its channel to the preload library (php.spawn = fork), see fork_launcher.h.
struct WorkerChannel {
  sys::Fd fd;
  std::unique_ptr<sys::IoWatch> watch; // after fd
  bool wants_connection = false;       // it has asked for one, and has not got it yet
  bool failed = false;                 // it has said why it does not come up: nothing else may follow
  bool wants_status = false;           // a script waits for send_status()

  void close() {
    watch.reset();
    fd.reset();
  }
};

// What it writes to its standard output and error; nothing without catch_workers_output.
struct WorkerOutputs {
  std::unique_ptr<Output> out;
  std::unique_ptr<Output> err;
  OutputLimit limit;
  bool noted = false; // there is something to read
};

// How it comes and goes.
struct WorkerLife {
  TimePoint spawned{};
  unsigned batch = 0;                // of the template that it was forked from
  std::optional<status::Metric> end; // why it has been told to end, or killed; none: it was not
  std::optional<int> status;         // it has ended: its wait status
  unsigned reads = 0;                // of its connection since then, or since it wants another one
  TimePoint killed{};                // when it was sent SIGKILL last
};

// Of the request that PHP works on, also when nobody waits for its answer any more.
struct WorkerTask {
  pool::Request *request = nullptr; // until it has been answered, lost, returned or abandoned
  TimePoint since{};                // when the worker got it; none: it is free
  TimePoint terminated{};           // when it was sent SIGPROF for it; none: it was not
  bool timed_out = false;           // ... by request_terminate_timeout
  std::string words;                // the request in words, once `request` is gone
};

struct Worker {
  explicit Worker(pool::WorkerId worker, TimePoint now) : id(worker) { life.spawned = now; }

  // PHP works on a request.
  [[nodiscard]] bool working() const { return task.since != TimePoint{}; }
  // Its process has ended, and what it has written is still to be read.
  [[nodiscard]] bool dead() const { return life.status.has_value(); }

  const pool::WorkerId id;
  int pid = -1; // not known yet; or it is no process any more
  Connection connection;
  WorkerChannel channel;
  sys::Fd socket_path; // php.spawn = exec: O_PATH of the socket on which it listens
  WorkerOutputs outputs;
  WorkerLife life;
  WorkerTask task;
  std::uint64_t served = 0;
  std::uint64_t limit = 0; // requests after which it is replaced; 0: none
  TimePoint weighed{};     // when the spawner was last asked for its memory
  bool overweight = false; // it has more than pm.max_memory
  WorkerUsage usage;
  bool noted = false; // it is in the roster's list of those that have something to do
};

} // namespace tqfpm::workers
