// How the pool's workers come to be: forked from a template, or each exec'ed by the spawner (php.spawn). What is
// different for the two is here; everything else does not know which it has.
#pragma once

#include <cstdint>
#include <string>

#include "base/clock.h"
#include "base/result.h"
#include "ipc/control.h"
#include "workers/worker.h"

namespace tqfpm::workers {

// What has become known of a worker.
struct LaunchTold {
  enum class What : std::uint8_t {
    kStarted,     // its process is there: pid
    kFailed,      // it does not come up, and has no process of ours: text
    kEnded,       // its process was there and has ended already: pid, status
    kAccepting,   // it has no connection and wants one
    kWantsStatus, // a script has called fpm_get_status()
    kMisbehaved,  // it has said what no worker says: text
  };
  What what = What::kFailed;
  pool::WorkerId worker{};
  int pid = -1;
  int status = 0;
  std::string text;
};

class Launcher {
public:
  enum class Tried : std::uint8_t {
    kDone,
    kLater, // there are no descriptors for it at the moment
    kGone,  // the worker does not answer
  };
  Launcher() = default;
  virtual ~Launcher() = default;
  Launcher(const Launcher &) = delete;
  Launcher &operator=(const Launcher &) = delete;

  // Asks for the process of a new worker, whose standard output and error these are.
  virtual Status start(Worker &worker, pool::VariantNumber variant, int out, int err) = 0;
  // What has become known, one thing at a time. False: nothing more in this turn.
  virtual bool next(LaunchTold &told) = 0;
  // Hears what new workers have said by now, before their end is looked at: who they are, above all.
  virtual void hear_new() = 0;
  // End of the round.
  virtual void settle() = 0;
  // Gives the worker a connection.
  virtual Tried connect(Worker &worker) = 0;
  // Does a worker without a connection tell when it takes another one? Else it has to be asked.
  [[nodiscard]] virtual bool asks() const = 0;
  // The answer to kWantsStatus. False: errno.
  virtual bool send_status(Worker &worker, const std::string &text) = 0;
  // Tells an idle worker to end; its connection has been closed.
  virtual void end(Worker &worker) = 0;
};

// Why the spawner has started nothing, in words.
std::string spawn_failure(const ipc::SpawnerReply &reply, const std::string &program);

} // namespace tqfpm::workers
