// The slow log: an entry for each request that takes longer than request_slowlog_timeout, with what PHP was doing.
//
// The spawner reads the worker. What is known of the request is kept meanwhile, so that there is an entry also when
// the request, its worker or the spawner is gone before the answer comes.
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <map>
#include <string>
#include <utility>

#include "config/types.h"
#include "ipc/control.h"
#include "pool/request.h"
#include "status/scoreboard.h"
#include "sys/event_loop.h"
#include "sys/fd.h"
#include "sys/log_sink.h"
#include "workers/spawner_link.h"

namespace tqfpm::workers {

class Roster;

class SlowLog {
public:
  SlowLog(sys::EventLoop &loop, const config::PoolConfig &pool, status::Scoreboard &scoreboard, SpawnerLink &spawner,
          const Roster &roster);
  ~SlowLog(); // writes what is waiting
  SlowLog(const SlowLog &) = delete;
  SlowLog &operator=(const SlowLog &) = delete;

  // Entries go here from now on.
  void use(sys::Fd log) { log_.take(std::move(log)); }
  // When a request that a worker gets at `started` will be slow; TimePoint::max(): never.
  [[nodiscard]] TimePoint due(TimePoint started) const;
  // A running request: is it slow by now? Returns when to ask again.
  TimePoint check(pool::Request &request, TimePoint now);

private:
  struct Entry {
    std::string head; // lines up to the memory
    pool::WorkerId worker{};
    pool::RequestKey request = 0;
    int pid = 0;
  };
  void ask();
  void answered(std::uint32_t id, const SpawnerAnswer &answer);
  [[nodiscard]] bool still_runs(const Entry &entry) const;
  void write(const Entry &entry, const ipc::TraceReply *reply, const std::string &reason);
  [[nodiscard]] std::string head_of(const pool::Request &request) const;

  const config::PoolConfig &pool_;
  SpawnerLink &spawner_;
  const Roster &roster_;
  status::Scoreboard &scoreboard_;
  sys::LogSink log_;
  std::map<std::uint32_t, Entry> entries_; // by number, oldest first
  std::deque<std::uint32_t> waiting_;      // of them, those that the spawner has not been asked for
  std::size_t asked_ = 0;                  // without an answer yet
  std::uint32_t next_ = 1;
  bool explained_ = false; // why there are no backtraces at all
};

} // namespace tqfpm::workers
