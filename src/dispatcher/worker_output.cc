#include "dispatcher/worker_output.h"

#include <unistd.h>

#include <cerrno>
#include <cstring>

namespace tqfpm::dispatcher {

WorkerOutput::WorkerOutput(sys::EventLoop &loop, sys::Fd pipe, std::size_t limit, OnLine on_line)
    : pipe_(std::move(pipe)), limit_(limit), on_line_(std::move(on_line)),
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
    if (got < 0)
      return; // EAGAIN; another error shows at the worker's end
    if (got == 0) {
      flush();
      watch_.set(0);
      return;
    }
    take(buffer, static_cast<std::size_t>(got));
  }
}

void WorkerOutput::take(const char *data, std::size_t length) {
  const char *end = data + length;
  while (data < end) {
    const char *newline = static_cast<const char *>(memchr(data, '\n', static_cast<std::size_t>(end - data)));
    const char *stop = newline != nullptr ? newline : end;
    const std::size_t room = limit_ - partial_.size();
    const bool cut = static_cast<std::size_t>(stop - data) > room;
    partial_.append(data, cut ? room : static_cast<std::size_t>(stop - data));
    if (cut) {
      data += room;
      flush();
    } else {
      data = stop;
      if (newline != nullptr) {
        ++data;
        on_line_(partial_);
        partial_.clear();
      }
    }
  }
}

void WorkerOutput::flush() {
  if (partial_.empty())
    return;
  on_line_(partial_);
  partial_.clear();
}

} // namespace tqfpm::dispatcher
