#include "sys/sd.h"

#include <fcntl.h>

#include <ctime>

#ifdef TQFPM_WITH_SYSTEMD
#include <systemd/sd-daemon.h>
#endif

namespace tqfpm::sys {

std::string sd_monotonic_usec() {
  timespec now{};
  ::clock_gettime(CLOCK_MONOTONIC, &now);
  return std::to_string(now.tv_sec * 1000000LL + now.tv_nsec / 1000);
}

#ifdef TQFPM_WITH_SYSTEMD

void sd_tell(const std::string &state) {
  (void)::sd_notify(0, state.c_str());
}

std::vector<Fd> sd_sockets() {
  std::vector<Fd> sockets;
  const int count = ::sd_listen_fds(1);
  for (int i = 0; i < count; ++i)
    sockets.emplace_back(SD_LISTEN_FDS_START + i);
  return sockets;
}

#else

void sd_tell(const std::string &) {}
std::vector<Fd> sd_sockets() {
  return {};
}

#endif

} // namespace tqfpm::sys
