// The spawner's other work: reading what a worker is doing, for the slow log.
//
// The spawner is of the workers' user, so it needs no privilege to read them, and it has none that a worker's memory,
// which a script may have filled as it likes, could turn against anybody.
#pragma once

#include "ipc/control.h"

namespace tqfpm::dispatcher {

// Reads the worker that `request` (kTrace) names, without stopping it, and fills `reply`, text included. Takes about
// request.budget milliseconds at most.
void trace_worker(const ipc::SpawnerRequest &request, ipc::TraceReply &reply);

} // namespace tqfpm::dispatcher
