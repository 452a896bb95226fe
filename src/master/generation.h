// One generation of a pool: a dispatcher process and what the master knows of it.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "base/clock.h"
#include "ipc/control.h"
#include "sys/event_loop.h"
#include "sys/fd.h"

namespace tqfpm::master {

enum class Phase { kStarting, kServing, kDraining };

struct Generation {
  pid_t pid = -1;
  unsigned number = 0; // counts within the pool
  Phase phase = Phase::kStarting;
  bool accepting = true;                // may still take new connections
  bool gone = false;                    // it has ended: what it has said before is still to be read
  unsigned pings = 0;                   // without an answer
  bool answers = false;                 // it knows them: it is of this program, or has answered one
  TimePoint overdue = TimePoint::max(); // when its drain has taken too long
  TimePoint started{};
  std::string failure; // what its kFailed said
  sys::Fd control;
  std::unique_ptr<sys::IoWatch> watch; // after control

  // False: the message could not be sent; the process has gone, or will be noticed as stuck.
  bool tell(ipc::MasterMessage type, std::uint64_t argument, int fd) const;
};

} // namespace tqfpm::master
