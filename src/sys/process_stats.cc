#include "sys/process_stats.h"

#include <unistd.h>

#include <cstdio>
#include <ctime>
#include <string>

#include "base/text.h"
#include "sys/files.h"

namespace tqfpm::sys {

std::optional<Duration> cpu_time(pid_t pid) {
  // What clock_getcpuclockid() makes of a pid, without its extra system call: the clock of the whole process.
  const auto clock = static_cast<clockid_t>(~static_cast<unsigned>(pid) << 3U | 2U);
  timespec used{};
  if (pid <= 0 || ::clock_gettime(clock, &used) != 0)
    return std::nullopt;
  return seconds(used.tv_sec) + std::chrono::nanoseconds(used.tv_nsec);
}

std::optional<CpuTimes> cpu_times(pid_t pid) {
  const auto stat = read_file("/proc/" + std::to_string(pid) + "/stat");
  const std::size_t name_end =
      stat.ok() ? stat.value().rfind(')') : std::string::npos; // the name may have anything in it
  if (name_end == std::string::npos)
    return std::nullopt;
  const auto fields = split(std::string_view(stat.value()).substr(name_end + 1), " \n");
  constexpr std::size_t kUser = 11; // fields 14 and 15 of proc(5), counted from the state
  const auto user = fields.size() > kUser + 1 ? to_number(fields[kUser]) : std::nullopt;
  const auto system = fields.size() > kUser + 1 ? to_number(fields[kUser + 1]) : std::nullopt;
  if (!user || !system)
    return std::nullopt;
  static const long kTicks = ::sysconf(_SC_CLK_TCK);
  const auto time = [](std::int64_t ticks) {
    return std::chrono::duration_cast<Duration>(std::chrono::duration<double>(double(ticks) / double(kTicks)));
  };
  return CpuTimes{time(*user), time(*system)};
}

std::uint64_t peak_memory(pid_t pid) {
  const auto status = read_file("/proc/" + std::to_string(pid) + "/status");
  constexpr std::string_view kName = "\nVmHWM:";
  const std::size_t at = status.ok() ? status.value().find(kName) : std::string::npos;
  if (at == std::string::npos)
    return 0;
  const auto words = split(std::string_view(status.value()).substr(at + kName.size(), 40), " \t\n");
  const auto kilobytes = words.empty() ? std::nullopt : to_number(words[0]);
  return kilobytes && *kilobytes > 0 ? static_cast<std::uint64_t>(*kilobytes) * 1024 : 0;
}

} // namespace tqfpm::sys
