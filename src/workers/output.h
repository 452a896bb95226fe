// What php-cgi writes to its standard output and error: cut into lines for the log. Passive: its watch only notes that
// there is something to read.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>

#include "base/line_splitter.h"
#include "pool/token_bucket.h"
#include "sys/event_loop.h"
#include "sys/fd.h"

namespace tqfpm::workers {

class Output {
public:
  using Note = std::function<void()>;
  using OnLine = LineSplitter::OnLine;

  // Of a pipe (non-blocking). Without `whole_lines` what has been read is a line at once.
  Output(sys::EventLoop &loop, sys::Fd pipe, bool whole_lines, Note note);

  // Takes what is there now, 64 KiB at most; `room`: bytes that a line may have. `on_line` is called in here, and never
  // later.
  void drain(std::size_t room, const OnLine &on_line, bool all = false);
  // The end of a request or of a worker: a partial line is a line, too.
  void flush(std::size_t room, const OnLine &on_line) { lines_.flush(room, on_line); }

private:
  sys::Fd pipe_;
  bool whole_lines_;
  LineSplitter lines_;
  sys::IoWatch watch_; // of pipe_
};

// How many lines of a worker's output come into the log: a script that writes without end must fill neither the loop's
// time nor the disk. What is too much is counted and told in one line.
class OutputLimit {
public:
  // May a line of `length` bytes come into the log?
  bool admits(std::size_t length, TimePoint now);
  // Lines that were suppressed, when it can be told: not more than once a second, unless `at_end`.
  std::uint64_t take_suppressed(TimePoint now, bool at_end);
  [[nodiscard]] bool owes() const { return suppressed_ > 0; }

private:
  // Rare floods pass, such as a script's whole debug output; what goes on and on does not.
  static constexpr double kLines = 1000;            // a second
  static constexpr double kBytes = 1. * (1U << 20); // a second
  static constexpr double kLinesAtOnce = 16384;
  static constexpr double kBytesAtOnce = 32. * (1U << 20);
  pool::TokenBucket lines_{kLines, kLinesAtOnce};
  pool::TokenBucket bytes_{kBytes, kBytesAtOnce};
  std::uint64_t suppressed_ = 0;
  TimePoint told_{};
};

} // namespace tqfpm::workers
