#include "sys/proc_info.h"

#include <fcntl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <ctime>
#include <string>

#include "base/text.h"
#include "sys/fd.h"
#include "sys/files.h"

namespace tqfpm::sys {

namespace {

// /proc/PID/NAME; "" where it cannot be read.
std::string proc_text(pid_t pid, const char *name) {
  auto text = read_file("/proc/" + std::to_string(pid) + "/" + name);
  return text.ok() ? std::move(text.value()) : std::string();
}

} // namespace

std::optional<MemoryUse> memory_use(pid_t pid) {
  static const auto page = static_cast<std::uint64_t>(::sysconf(_SC_PAGESIZE));
  char path[32];
  (void)std::snprintf(path, sizeof path, "/proc/%d/statm", static_cast<int>(pid));
  const Fd fd(::open(path, O_RDONLY | O_CLOEXEC));
  char text[128];
  const ssize_t got = fd.valid() ? ::read(fd.get(), text, sizeof text) : -1;
  return got > 0 ? memory_of_statm({text, static_cast<std::size_t>(got)}, page) : std::nullopt;
}

std::optional<MemoryShare> memory_share(pid_t pid) {
  return memory_of_rollup(proc_text(pid, "smaps_rollup"));
}

std::uint64_t peak_memory(pid_t pid) {
  return peak_of_status(proc_text(pid, "status"));
}

std::optional<Duration> cpu_time(pid_t pid) {
  // What clock_getcpuclockid() makes of a pid, without its extra system call: the clock of the whole process.
  const auto clock = static_cast<clockid_t>(~static_cast<unsigned>(pid) << 3U | 2U);
  timespec used{};
  if (pid <= 0 || ::clock_gettime(clock, &used) != 0)
    return std::nullopt;
  return seconds(used.tv_sec) + std::chrono::nanoseconds(used.tv_nsec);
}

std::optional<CpuTimes> cpu_times(pid_t pid) {
  static const long kTicks = ::sysconf(_SC_CLK_TCK);
  const auto used = cpu_of_stat(proc_text(pid, "stat"));
  if (!used)
    return std::nullopt;
  const auto time = [](std::int64_t ticks) {
    return std::chrono::duration_cast<Duration>(std::chrono::duration<double>(double(ticks) / double(kTicks)));
  };
  return CpuTimes{time(used->user), time(used->system)};
}

std::vector<pid_t> children_of(pid_t pid) {
  const std::string text = proc_text(pid, ("task/" + std::to_string(pid) + "/children").c_str());
  std::vector<pid_t> children;
  for (const std::string &word : split(text, " \n")) {
    if (const auto child = to_number(word))
      children.push_back(static_cast<pid_t>(*child));
  }
  return children;
}

bool is_child(pid_t pid) {
  siginfo_t info{};
  int rc = 0;
  do
    rc = ::waitid(P_PID, static_cast<id_t>(pid), &info, WEXITED | WNOHANG | WNOWAIT);
  while (rc != 0 && errno == EINTR);
  return rc == 0;
}

} // namespace tqfpm::sys
