// What the set of workers is made with, besides its pool.
#pragma once

#include "config/types.h"
#include "status/process_board.h"
#include "status/scoreboard.h"
#include "workers/children.h"
#include "workers/usage.h"

namespace tqfpm::workers {

struct WorkersSettings {
  bool fork_mode = true; // php.spawn = fork, and there is a library for it
  Measures measures;
  const config::GlobalConfig &global;
  status::Scoreboard &scoreboard;
  status::ProcessBoard &processes;
  Processes &system = real_processes();
};

} // namespace tqfpm::workers
