// What the kernel tells of another process: memory, time, children. It needs no rights where nothing else is said.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <optional>
#include <vector>

#include "base/clock.h"
#include "base/proc_text.h"

namespace tqfpm::sys {

// Cheap: it allocates nothing.
std::optional<MemoryUse> memory_use(pid_t pid);
// The right to read the process's memory is needed, and the kernel walks its page tables.
std::optional<MemoryShare> memory_share(pid_t pid);
// Most that it ever had resident, in bytes; 0: not known.
std::uint64_t peak_memory(pid_t pid);

// CPU time of all its threads; one system call, exact.
std::optional<Duration> cpu_time(pid_t pid);
// The same apart, in the kernel's coarse ticks.
struct CpuTimes {
  Duration user{};
  Duration system{};
};
std::optional<CpuTimes> cpu_times(pid_t pid);

// Children of a process, dead ones included that nobody has waited for; none where the kernel does not tell
// (CONFIG_PROC_CHILDREN). Only of single-threaded processes.
std::vector<pid_t> children_of(pid_t pid);
// Is it a child of this process that has not been waited for?
bool is_child(pid_t pid);

} // namespace tqfpm::sys
