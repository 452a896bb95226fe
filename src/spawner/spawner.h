// The spawner: a process of the pool's user that starts php-cgi, and reads workers for the slow log. The dispatcher
// forks it while it is still root; afterwards neither has root, and templates can still be started at any time.
#pragma once

#include <sys/resource.h>

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/result.h"
#include "ipc/control.h"
#include "spawner/php_command.h"
#include "sys/event_loop.h"
#include "sys/fd.h"

namespace tqfpm::spawner {

struct SpawnerPlan {
  // The command of a template or a worker, perhaps with the settings of a memory file.
  std::function<Result<PhpCommand>(ipc::SpawnKind kind, std::optional<int> settings)> command;
  sys::Fd library;                   // libtqfpm-template.so; none: php.spawn = exec
  std::optional<sys::Identity> user; // to become; none when not root
  std::string pool;
  std::string chroot;
  std::string chdir;
  std::string apparmor;        // profile of the workers; empty: as it is
  std::string apparmor_folder; // with AppArmor's files
  std::optional<std::uint64_t> limit_files;
  std::optional<rlimit> files; // RLIMIT_NOFILE as it was for the master: a dispatcher has more, scripts do not
  std::optional<std::uint64_t> limit_core;
  std::optional<int> priority; // process.priority, set while root
  bool dumpable = true;        // process.dumpable
  bool subreaper = false;      // process.kill_descendants
};

// Forks the spawner. Call it before the event loop exists and before privileges are dropped. Returns our end of its
// control socket (non-blocking).
struct SpawnerProcess {
  pid_t pid = -1;
  sys::Fd control;
};
Result<SpawnerProcess> fork_spawner(const SpawnerPlan &plan);

} // namespace tqfpm::spawner
