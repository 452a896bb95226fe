// What a worker writes to its standard output and error: cut into lines for the log.
#pragma once

#include <functional>
#include <string>

#include "sys/event_loop.h"
#include "sys/fd.h"

namespace tqfpm::dispatcher {

class WorkerOutput {
public:
  using OnLine = std::function<void(const std::string &line)>;
  // Reads `pipe` (non-blocking) until it ends. Lines longer than `limit` are cut.
  WorkerOutput(sys::EventLoop &loop, sys::Fd pipe, std::size_t limit, OnLine on_line);
  // Takes what is there now; at the end of a request or of the worker a partial line is a line, too.
  void drain();
  void flush();

private:
  void take(const char *data, std::size_t length);
  sys::Fd pipe_;
  std::size_t limit_;
  OnLine on_line_;
  std::string partial_;
  sys::IoWatch watch_;
};

} // namespace tqfpm::dispatcher
