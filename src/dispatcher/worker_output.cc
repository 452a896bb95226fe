#include "dispatcher/worker_output.h"

#include <unistd.h>

#include <cerrno>

namespace tqfpm::dispatcher {

WorkerOutput::WorkerOutput(sys::EventLoop &loop, sys::Fd pipe, bool whole_lines, Room room, OnLine on_line)
    : pipe_(std::move(pipe)), whole_lines_(whole_lines), room_(std::move(room)), on_line_(std::move(on_line)),
      watch_(loop, pipe_.get(), [this](unsigned) { drain(); }) {
  watch_.set(sys::kReadable);
}

void WorkerOutput::drain() {
  char buffer[16384];
  // A worker that writes without end must not hold the loop: the rest comes in the next turn.
  for (int i = 0; i < 64; ++i) {
    const ssize_t got = ::read(pipe_.get(), buffer, sizeof buffer);
    if (got < 0 && errno == EINTR)
      continue;
    if (got < 0) { // EAGAIN; another error shows at the worker's end
      if (!whole_lines_)
        flush();
      return;
    }
    if (got == 0) {
      flush();
      watch_.set(0);
      return;
    }
    lines_.feed(std::string_view(buffer, static_cast<std::size_t>(got)), room_(), on_line_);
  }
}

void WorkerOutput::flush() {
  lines_.flush(room_(), on_line_);
}

} // namespace tqfpm::dispatcher
