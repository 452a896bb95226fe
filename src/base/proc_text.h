// The texts of /proc about a process, in numbers. sys/proc_info reads them.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>
#include <vector>

namespace tqfpm {

// From statm; pages that are shared with the template count as resident.
struct MemoryUse {
  std::uint64_t resident = 0; // bytes
  std::uint64_t shared = 0;   // of them: files and shared memory
};
std::optional<MemoryUse> memory_of_statm(std::string_view statm, std::uint64_t page_size);

// From smaps_rollup, in KiB.
struct MemoryShare {
  std::uint32_t resident = 0;
  std::uint32_t proportional = 0; // what is shared counts by its share (PSS)
};
std::optional<MemoryShare> memory_of_rollup(std::string_view rollup);

// Most that was ever resident, in bytes, from status; 0: not known.
std::uint64_t peak_of_status(std::string_view status);

// From stat, in the kernel's ticks.
struct CpuTicks {
  std::int64_t user = 0;
  std::int64_t system = 0;
};
std::optional<CpuTicks> cpu_of_stat(std::string_view stat);

// Where the beginnings of files are mapped, from maps: programs and libraries are among them. In order.
std::vector<std::uint64_t> image_bases(std::string_view maps);

} // namespace tqfpm
