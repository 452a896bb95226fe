// The spawner: a process of the pool's user that starts php-cgi, and reads workers for the slow log. The dispatcher
// forks it while it is still root; afterwards neither has root, and templates can still be started at any time.
#pragma once

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

// The dispatcher's side of the control socket.
class SpawnerLink {
public:
  using OnReply = std::function<void(const ipc::SpawnerReply &)>;
  using OnTrace = std::function<void(const ipc::TraceReply &)>;
  using OnClosed = std::function<void()>;
  SpawnerLink(sys::EventLoop &loop, sys::Fd control, OnReply on_reply, OnTrace on_trace, OnClosed on_closed);
  // False: the spawner has gone or is behind by too much.
  bool send(ipc::SpawnKind kind, std::uint32_t id, std::span<const int> fds);
  bool send(const ipc::SpawnerRequest &request);
  bool send(const ipc::LookRequest &request);

private:
  void readable();
  bool heard(const std::vector<char> &packet, std::size_t length);
  sys::Fd control_;
  OnReply on_reply_;
  OnTrace on_trace_;
  OnClosed on_closed_;
  sys::IoWatch watch_;
};

} // namespace tqfpm::spawner
