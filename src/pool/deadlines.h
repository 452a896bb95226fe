// How long a worker may be in a state, and what is due when it is longer. Pure: facts and the time in, an action out.
//
// Every way of not ending is the same: SIGPROF, at which PHP raises its own time-out error and ends the request in
// order; a grace; SIGKILL, again and again until the process has gone.
#pragma once

#include <cstdint>

#include "base/clock.h"
#include "pool/worker_table.h"

namespace tqfpm::pool {

struct Deadlines {
  Duration terminate{};                 // request_terminate_timeout; zero: none
  Duration grace = seconds(5);          // request_terminate_grace
  Duration first_sign = seconds(30);    // from the order to start a worker until its pid is known
  Duration start = seconds(30);         // from a worker's start to its first accept()
  Duration stop = seconds(10);          // from the order to end to SIGKILL
  Duration come_back = seconds(10);     // from the end of a request until it is idle again
  Duration explain = milliseconds(200); // from a lost connection to its end, if it ends
  bool probes = false;                  // php.spawn = exec: nothing tells that it is idle again, it is asked
};

// Of one worker; a TimePoint{} is "not".
struct WorkerClock {
  WorkerState state = WorkerState::kFree;
  TimePoint since{};        // in this state
  TimePoint work_since{};   // PHP works on a request since then
  TimePoint terminated{};   // SIGPROF was sent
  TimePoint killed{};       // SIGKILL was sent, the last time
  bool has_process = false; // its pid is known
  bool waits = false;       // somebody waits for the answer of a request that it has
};

enum class DeadlineAction : std::uint8_t {
  kNone,
  kTerminate, // SIGPROF
  kKill,      // SIGKILL
  kGiveUp,    // a start of which nothing was heard
  kLose,      // it lives and has closed its connection: its request is lost
  kProbe,     // ask it whether it is idle again
};
struct Deadline {
  DeadlineAction action = DeadlineAction::kNone; // now
  TimePoint next = TimePoint::max();             // look again then at the latest, when that is done
};

Deadline deadline(const WorkerClock &worker, const Deadlines &limits, TimePoint now);

} // namespace tqfpm::pool
