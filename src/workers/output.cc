#include "workers/output.h"

#include <unistd.h>

#include <cerrno>

namespace tqfpm::workers {

namespace {
constexpr std::size_t kReadSize = 16384;
constexpr std::size_t kPipeSize = 65536; // of Linux's pipes
} // namespace

Output::Output(sys::EventLoop &loop, sys::Fd pipe, bool whole_lines, Note note)
    : pipe_(std::move(pipe)), whole_lines_(whole_lines),
      watch_(loop, pipe_.get(), [note = std::move(note)](unsigned) { note(); }) {
  watch_.set(sys::kReadable);
}

void Output::drain(std::size_t room, const OnLine &on_line, bool all) {
  char buffer[kReadSize];
  // Somebody who writes without end must not hold the loop: the rest comes in the next turn.
  for (std::size_t i = 0; i < (all ? kPipeSize / kReadSize : 1); ++i) {
    const ssize_t got = ::read(pipe_.get(), buffer, sizeof buffer);
    if (got < 0 && errno == EINTR)
      continue;
    if (got < 0) { // EAGAIN; another error shows at the worker's end
      if (!whole_lines_)
        flush(room, on_line);
      return;
    }
    if (got == 0) {
      flush(room, on_line);
      watch_.set(0);
      return;
    }
    lines_.feed(std::string_view(buffer, static_cast<std::size_t>(got)), room, on_line);
  }
  if (!whole_lines_)
    flush(room, on_line);
}

bool OutputLimit::admits(std::size_t length, TimePoint now) {
  const auto bytes = static_cast<double>(length);
  lines_.refill(now);
  bytes_.refill(now);
  if (!lines_.has(1) || !bytes_.has(bytes)) {
    ++suppressed_;
    return false;
  }
  lines_.take(1);
  bytes_.take(bytes);
  return true;
}

std::uint64_t OutputLimit::take_suppressed(TimePoint now, bool at_end) {
  if (suppressed_ == 0 || (!at_end && now - told_ < seconds(1)))
    return 0;
  told_ = now;
  return std::exchange(suppressed_, 0);
}

} // namespace tqfpm::workers
