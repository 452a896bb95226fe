// The parts of the preload library. libc alone, see template.cc.
#pragma once

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "ipc/control.h"

namespace tqfpm::preload {

enum class Mode { kOff, kTemplate, kWorker };

// The one state of this library, set up before main() and after each fork.
struct State {
  Mode mode;
  int control; // template: to the dispatcher
  int channel; // worker: to the dispatcher
  pid_t self;  // the process that `mode` is true for: children that a script forks are not ours
  uint32_t slot;
  uint32_t generation;
  int connection; // worker: that php-cgi has from us; -1: none
  bool finished;  // worker: the request at hand has been finished early, on that connection
  bool ready_sent;
  char *title_start;
  size_t title_size;
  ipc::WorkerSetup setup;
};
extern State state;

// One whole packet.
bool send_all(int socket, const void *data, size_t size);
// One packet with up to `wanted` descriptors, close-on-exec; those that do not arrive are -1. As recvmsg().
ssize_t receive(int socket, void *data, size_t size, int *fds, size_t wanted);
// To the dispatcher, from a worker.
bool report(ipc::WorkerReportType type, ipc::WorkerStage stage, int error);

// Gives PHP the functions that php-fpm has. Called when PHP starts, again and again until it was done or cannot be.
void offer_functions();
// A worker is at its accept() again: what a script that PHP has ended by longjmp() has left behind is put right.
void restore_filter();

} // namespace tqfpm::preload
