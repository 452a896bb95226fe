// The slow log: an entry for each request that takes longer than request_slowlog_timeout, with what PHP was doing.
//
// The spawner reads the worker. What is known of the request is kept meanwhile, so that there is an entry also when
// the request, its worker or the spawner is gone before the answer comes.
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <string>
#include <utility>

#include "config/types.h"
#include "dispatcher/request.h"
#include "ipc/control.h"
#include "status/scoreboard.h"
#include "sys/event_loop.h"
#include "sys/fd.h"

namespace tqfpm::dispatcher {

// What the slow log asks of the crew.
class SlowLogOwner {
public:
  virtual ~SlowLogOwner() = default;
  // Is the request still that worker's? Then so is the process, too.
  [[nodiscard]] virtual bool still_runs(pool::WorkerId worker, pool::RequestKey request) const = 0;
  // False: the spawner takes no orders.
  virtual bool ask_trace(const ipc::SpawnerRequest &request) = 0;
};

class SlowLog {
public:
  SlowLog(sys::EventLoop &loop, SlowLogOwner &owner, const config::PoolConfig &pool, status::Scoreboard &scoreboard);
  ~SlowLog(); // writes what is waiting

  void use(sys::Fd log) { log_ = std::move(log); }
  // When a request that a worker gets at `started` will be slow; TimePoint::max(): never.
  [[nodiscard]] TimePoint due(TimePoint started) const;
  // A running request: is it slow by now? Returns when to ask again.
  TimePoint check(Request &request, TimePoint now);
  void answered(const ipc::TraceReply &reply);
  // There will be no answers any more.
  void spawner_gone();

private:
  struct Entry {
    std::string head; // lines up to the memory
    pool::WorkerId worker{};
    pool::RequestKey request = 0;
    int pid = 0;
    TimePoint given_up{};
  };
  void ask();
  void give_up();
  void write(const Entry &entry, const ipc::TraceReply *reply, const std::string &reason);
  std::string head_of(const Request &request) const;

  SlowLogOwner &owner_;
  const config::PoolConfig &pool_;
  status::Scoreboard &scoreboard_;
  sys::Fd log_;
  std::map<std::uint32_t, Entry> entries_; // by id, oldest first
  std::deque<std::uint32_t> waiting_;      // of them, those that the spawner has not been asked for
  std::size_t asked_ = 0;                  // without an answer yet
  std::uint32_t next_id_ = 1;
  bool explained_ = false; // why there are no backtraces at all
  sys::TimerWatch timer_;
};

} // namespace tqfpm::dispatcher
