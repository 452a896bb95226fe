// What /proc says of a process.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <optional>
#include <vector>

namespace tqfpm::sys {

// From /proc/PID/statm, which needs no rights. Pages that are shared with the template count as resident.
struct MemoryUse {
  std::uint64_t resident = 0; // bytes
  std::uint64_t shared = 0;   // of them: files and shared memory
};
std::optional<MemoryUse> memory_use(pid_t pid);

// Children of a process, dead ones included that nobody has waited for; none where the kernel does not tell
// (CONFIG_PROC_CHILDREN). Only of single-threaded processes.
std::vector<pid_t> children_of(pid_t pid);
// Is it a child of this process that has not been waited for?
bool is_child(pid_t pid);

} // namespace tqfpm::sys
