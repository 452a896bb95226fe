// What a worker writes to its standard output and error: cut into lines for the log.
#pragma once

#include <cstddef>
#include <functional>

#include "base/line_splitter.h"
#include "sys/event_loop.h"
#include "sys/fd.h"

namespace tqfpm::dispatcher {

class WorkerOutput {
public:
  using Room = std::function<std::size_t()>; // bytes that a line may have at the moment
  using OnLine = LineSplitter::OnLine;
  // Reads `pipe` (non-blocking) until it ends. Without `whole_lines` what has been read is a line at once.
  WorkerOutput(sys::EventLoop &loop, sys::Fd pipe, bool whole_lines, Room room, OnLine on_line);
  // Takes what is there now; at the end of a request or of the worker a partial line is a line, too.
  void drain();
  void flush();

private:
  sys::Fd pipe_;
  bool whole_lines_;
  Room room_;
  OnLine on_line_;
  LineSplitter lines_;
  sys::IoWatch watch_;
};

} // namespace tqfpm::dispatcher
