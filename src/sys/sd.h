// systemd: readiness and inherited sockets. Without systemd (or WITH_SYSTEMD=0) these do nothing.
#pragma once

#include <string>
#include <vector>

#include "sys/fd.h"

namespace tqfpm::sys {

// READY=1, RELOADING=1, STOPPING=1, STATUS=... as sd_notify(3) takes them, separated by newlines.
void sd_tell(const std::string &state);
// The value for MONOTONIC_USEC= that RELOADING=1 needs.
std::string sd_monotonic_usec();
// Sockets passed by LISTEN_FDS; the variables are removed.
std::vector<Fd> sd_sockets();

} // namespace tqfpm::sys
