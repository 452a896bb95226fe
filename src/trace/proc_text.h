// What /proc says of a process, in numbers.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>
#include <vector>

#include "trace/memory.h"

namespace tqfpm::trace {

// Where the beginnings of files are mapped, from /proc/PID/maps: programs and libraries are among them. In order.
std::vector<Address> image_bases(std::string_view maps);

// From /proc/PID/smaps_rollup, in KiB.
struct MemoryUse {
  std::uint32_t resident = 0;
  std::uint32_t proportional = 0; // what is shared counts by its share
};
std::optional<MemoryUse> memory_use(std::string_view rollup);

} // namespace tqfpm::trace
