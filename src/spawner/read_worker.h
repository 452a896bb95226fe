// The spawner's other work: reading what a worker is doing, for the slow log, and how much memory it has.
//
// The spawner is of the workers' user, so it needs no privilege to read them, and it has none that a worker's memory,
// which a script may have filled as it likes, could turn against anybody.
#pragma once

#include <cstdint>

#include "ipc/control.h"

namespace tqfpm::spawner {

// Reads the worker that `request` (kTrace) names, without stopping it, and fills `reply`, text included. Takes about
// request.budget milliseconds at most.
void trace_worker(const ipc::SpawnerRequest &request, ipc::TraceReply &reply);

// Proportional set size of a worker in KiB; 0: it cannot be told.
std::uint32_t weigh_worker(std::int32_t pid);

} // namespace tqfpm::spawner
