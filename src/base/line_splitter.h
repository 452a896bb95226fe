// Cuts a stream of output into lines for a log.
#pragma once

#include <cstddef>
#include <functional>
#include <string>
#include <string_view>

namespace tqfpm {

// A line ends at a newline, when it has as many bytes as may be, or at PHP's flush mark "\0fscf\0", which php-fpm's
// workers write where a message is complete without a newline. The mark itself is dropped, also when it comes in
// pieces.
class LineSplitter {
public:
  using OnLine = std::function<void(const std::string &line)>;

  // `room`: bytes that a line may have, without a newline; at least 1.
  void feed(std::string_view data, std::size_t room, const OnLine &on_line);
  // Nothing more comes for now: what is there is a line.
  void flush(std::size_t room, const OnLine &on_line);

private:
  std::string partial_;
  std::size_t scanned_ = 0; // of partial_: no end of a line begins before it
};

} // namespace tqfpm
