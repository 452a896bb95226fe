// Starting another program. Between fork and exec only child_exec.cc runs: no allocation, no exceptions; a failure
// comes back to the parent as {stage, errno}.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "base/result.h"

namespace tqfpm::sys {

// What the child was doing when it failed.
enum class ExecStage : std::int32_t {
  kNone,
  kFork,
  kFds,
  kLimits,
  kPriority,
  kChroot,
  kChdir,
  kExec,
  kAppArmor,
  kUser
};
// "cannot change to its directory" and the like, for "pool www: <text> of worker: <strerror>".
const char *stage_text(ExecStage stage);

// Whom the program runs as, from root: without any capability, unless it is root itself.
struct ExecUser {
  uid_t uid = 0;
  gid_t gid = 0;
  std::vector<gid_t> groups;
};

struct ExecPlan {
  std::string path;                         // absolute
  std::vector<std::string> arguments;       // argv[0] first
  std::vector<std::string> environment;     // NAME=value
  std::vector<std::pair<int, int>> fds;     // {ours, number in the child}; everything else is close-on-exec
  std::optional<std::uint64_t> limit_files; // RLIMIT_NOFILE, soft and hard
  std::optional<std::uint64_t> limit_core;  // RLIMIT_CORE; UINT64_MAX: unlimited
  std::optional<int> priority;
  std::optional<ExecUser> user; // none: as we are
  std::string chroot;           // empty: none
  std::string directory;        // empty: as it is
  std::string apparmor;         // empty: none; AppArmor profile of the program
  std::string apparmor_file;    // where that is written to
  bool detach = false;          // fork twice: the process becomes a child of the nearest subreaper, not of the caller
  int death_signal = 0;         // with detach: sent when the process that adopts it dies
  bool subreaper = false;       // descendants that lose their parent become its children
  pid_t tracer = -1;            // > 0: this process may read the child's memory, also where yama restricts that
};

struct ExecResult {
  pid_t pid = -1;
  ExecStage stage = ExecStage::kNone; // with pid -1
  int error = 0;                      // with pid -1: errno
};

// Returns once the program runs or has failed. The child has default signal handlers and an empty signal mask.
ExecResult child_exec(const ExecPlan &plan);

} // namespace tqfpm::sys
