// php.spawn = fork: a template forks the workers, and each has a channel to the preload library in it. On it comes
//
//   HELLO        first, and once: the worker's pid
//   ACCEPTING    whenever php-cgi has called accept(); never while a connection of ours is out
//   STATUS       while a script runs, and then not again before it has its answer
//   FAILED       instead of HELLO: why the worker does not come up; it is the last
//
// The other end is in the hands of scripts: whatever else comes ends the worker.
#pragma once

#include <cstddef>
#include <string>
#include <vector>

#include "ipc/control.h"
#include "workers/children.h"
#include "workers/launcher.h"
#include "workers/roster.h"
#include "workers/variants.h"

namespace tqfpm::workers {

class ForkLauncher : public Launcher {
public:
  ForkLauncher(sys::EventLoop &loop, const std::string &pool, Roster &roster, Children &children, Variants &variants)
      : loop_(loop), pool_(pool), roster_(roster), children_(children), variants_(variants) {}

  Status start(Worker &worker, pool::VariantNumber variant, int out, int err) override;
  bool next(LaunchTold &told) override;
  void hear_new() override;
  void settle() override;
  Tried connect(Worker &worker) override;
  [[nodiscard]] bool asks() const override { return true; }
  bool send_status(Worker &worker, const std::string &text) override;
  void end(Worker &worker) override { worker.channel.close(); }

private:
  static constexpr unsigned kReportsPerTurn = 8; // of one worker
  bool read(Worker &worker, LaunchTold &told);
  bool said(Worker &worker, const ipc::WorkerReport &report, LaunchTold &told);
  bool hello(Worker &worker, const ipc::WorkerReport &report, LaunchTold &told);
  bool status(Worker &worker, LaunchTold &told);

  sys::EventLoop &loop_;
  const std::string &pool_;
  Roster &roster_;
  Children &children_;
  Variants &variants_;
  std::vector<pool::WorkerId> noted_; // those that have said something, from next_ on
  std::size_t next_ = 0;
  unsigned reports_ = 0; // of the one at next_, in this turn
};

} // namespace tqfpm::workers
