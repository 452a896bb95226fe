// What else runs on this machine, and how much memory there is.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "sys/socket.h"

namespace tqfpm::sys {

// Who listens on this address now: "pid 12 (php-fpm: master process (...))", "another process"; "" if nobody does.
std::string listener_on(const ListenSpec &spec);
// "pid 12 (/etc/x.conf)" of each process whose title begins with `title`, a master's: "NAME: master process (FILE)".
std::vector<std::string> masters_called(const std::string &title);

// The least of what this machine and the control groups of this process have.
struct MemoryLimit {
  std::uint64_t bytes = 0; // 0: not known
  bool of_group = false;
};
MemoryLimit memory_limit();

} // namespace tqfpm::sys
