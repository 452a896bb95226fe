// What the parts of the set of workers share: facts, and the objects that all of them use.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

#include "config/types.h"
#include "pool/process_manager.h"
#include "spawner/spawner.h"
#include "status/process_board.h"
#include "status/scoreboard.h"
#include "sys/event_loop.h"
#include "workers/children.h"
#include "workers/event.h"
#include "workers/launcher.h"
#include "workers/roster.h"
#include "workers/settings.h"
#include "workers/slow_log.h"
#include "workers/spawner_link.h"
#include "workers/variants.h"

namespace tqfpm::workers {

struct Context {
  enum class Phase : std::uint8_t { kComing, kReady, kFailed };

  Context(sys::EventLoop &event_loop, const config::PoolConfig &pool_config, const WorkersSettings &settings,
          spawner::SpawnerProcess &process);

  // PHP is up: when the first worker is idle, so that the first request does not wait for one; or cannot be had, which
  // is said and tried again.
  void be_ready(TimePoint now);
  // ... or never will be.
  void fail(const std::string &why);
  // Somebody has become idle, or has gone.
  void changed() { events.push(Event::Kind::kChanged); }
  // Is the worker from a template before the one that is ready now?
  [[nodiscard]] bool outdated(const Worker &worker) const;

  sys::EventLoop &loop;
  const config::PoolConfig &pool;
  const config::GlobalConfig &global;
  status::Scoreboard &scoreboard;
  status::ProcessBoard &board;
  const std::size_t holder; // our cell of the board
  const Measures measures;
  pool::Deadlines deadlines;
  Events events;
  pool::ProcessManager manager;
  Roster roster;
  Children children;
  SpawnerLink spawner;
  Variants variants;
  SlowLog slow_log;
  std::unique_ptr<Launcher> launcher;
  bool fork_mode; // or a fall-back to php.spawn = exec
  Phase phase = Phase::kComing;
  bool draining = false;
  std::size_t queued = 0; // requests that wait, as decide() was told last
};

} // namespace tqfpm::workers
