// The check before a reload: the program on disk reads the configuration with -t, in a child. The master goes on
// meanwhile.
#pragma once

#include <sys/types.h>

#include <memory>
#include <string>
#include <vector>

#include "base/result.h"
#include "sys/event_loop.h"
#include "sys/process.h"

namespace tqfpm::master {

class Check {
public:
  // `command`: how the master was called.
  static Result<std::unique_ptr<Check>> start(sys::EventLoop &loop, const std::vector<std::string> &command);
  Check(sys::EventLoop &loop, sys::RunningProgram program);
  ~Check(); // kills it if it still runs
  Check(const Check &) = delete;
  Check &operator=(const Check &) = delete;

  [[nodiscard]] pid_t pid() const { return program_.pid; }
  // It has been waited for, with this status: what came of it. The error is what it has printed.
  Status ended(int wait_status);

private:
  void read();
  void overdue();

  sys::RunningProgram program_;
  std::string text_;
  bool overdue_ = false;
  sys::IoWatch watch_; // after program_
  sys::TimerWatch limit_;
};

} // namespace tqfpm::master
