// php.spawn = exec: the spawner starts each php-cgi, which listens on a socket whose name is gone. Nothing tells that
// it accepts again: it is asked with FCGI_GET_VALUES, which php-cgi answers only from its accept loop.
#pragma once

#include <deque>
#include <string>

#include "workers/children.h"
#include "workers/launcher.h"
#include "workers/roster.h"
#include "workers/spawner_link.h"
#include "workers/variants.h"

namespace tqfpm::workers {

// What is asked.
std::string probe_record();

class ExecLauncher : public Launcher {
public:
  ExecLauncher(sys::EventLoop &loop, const config::PoolConfig &pool, Roster &roster, Children &children,
               Variants &variants, SpawnerLink &spawner)
      : loop_(loop), pool_(pool), roster_(roster), children_(children), variants_(variants), spawner_(spawner) {}

  Status start(Worker &worker, pool::VariantNumber variant, int out, int err) override;
  bool next(LaunchTold &told) override;
  void hear_new() override {}
  void settle() override {}
  Tried connect(Worker &worker) override;
  [[nodiscard]] bool asks() const override { return false; }
  bool send_status(Worker &, const std::string &) override { return true; } // nobody asks
  void end(Worker &worker) override;                                        // php-cgi ends in order

private:
  void answered(pool::WorkerId id, const SpawnerAnswer &answer);

  sys::EventLoop &loop_;
  const config::PoolConfig &pool_;
  Roster &roster_;
  Children &children_;
  Variants &variants_;
  SpawnerLink &spawner_;
  std::deque<LaunchTold> told_;
};

} // namespace tqfpm::workers
