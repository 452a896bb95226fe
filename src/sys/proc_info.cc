#include "sys/proc_info.h"

#include <fcntl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <string>

#include "sys/fd.h"
#include "sys/files.h"

namespace tqfpm::sys {

std::optional<MemoryUse> memory_use(pid_t pid) {
  char path[32];
  (void)std::snprintf(path, sizeof path, "/proc/%d/statm", static_cast<int>(pid));
  const Fd fd(::open(path, O_RDONLY | O_CLOEXEC));
  char text[128];
  const ssize_t got = fd.valid() ? ::read(fd.get(), text, sizeof text - 1) : -1;
  if (got <= 0)
    return std::nullopt;
  text[got] = 0;
  char *next = nullptr;
  (void)std::strtoull(text, &next, 10); // size
  static const auto page = static_cast<std::uint64_t>(::sysconf(_SC_PAGESIZE));
  MemoryUse use;
  use.resident = std::strtoull(next, &next, 10) * page;
  use.shared = std::strtoull(next, nullptr, 10) * page;
  return use;
}

std::vector<pid_t> children_of(pid_t pid) {
  const std::string number = std::to_string(pid);
  const auto text = read_file("/proc/" + number + "/task/" + number + "/children");
  std::vector<pid_t> children;
  const char *at = text.ok() ? text.value().c_str() : "";
  char *end = nullptr;
  for (long child = std::strtol(at, &end, 10); end != at; child = std::strtol(at, &end, 10)) {
    children.push_back(static_cast<pid_t>(child));
    at = end;
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
