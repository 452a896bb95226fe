// What another process has used, as the kernel tells everybody.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <optional>

#include "base/clock.h"

namespace tqfpm::sys {

// CPU time of all its threads; one system call, exact.
std::optional<Duration> cpu_time(pid_t pid);
// The same apart, in the kernel's coarse ticks, from /proc.
struct CpuTimes {
  Duration user{};
  Duration system{};
};
std::optional<CpuTimes> cpu_times(pid_t pid);
// Most that it ever had resident, in bytes, from /proc; 0: not known.
std::uint64_t peak_memory(pid_t pid);

} // namespace tqfpm::sys
