// What one connection of a web server has sent and is not parsed yet, and what it has not taken of its answers.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace tqfpm::web {

// Bytes that have been read and are not parsed. Most often there are none: what is read is parsed where it is.
class InputBuffer {
public:
  [[nodiscard]] std::string_view rest() const { return std::string_view(bytes_).substr(used_); }
  [[nodiscard]] bool empty() const { return used_ == bytes_.size(); }
  [[nodiscard]] std::size_t size() const { return bytes_.size(); }
  [[nodiscard]] std::size_t capacity() const { return bytes_.capacity(); }
  // All that is to be parsed, with `fresh` at its end: valid until keep().
  std::string_view with(std::string_view fresh);
  // What has not been parsed of it: an end of what with() has said.
  void keep(std::string_view rest);
  // Also gives the memory back that an idle connection does not need.
  void clear();

private:
  std::string bytes_;
  std::size_t used_ = 0;
};

// Bytes for a peer that takes them slowly. The descriptor of a socket is the caller's.
class OutputBuffer {
public:
  // kTaken: the peer has taken something of what was kept; kStuck: nothing; kBroken: an error, the connection is over.
  enum class Outcome : std::uint8_t { kTaken, kStuck, kBroken };
  [[nodiscard]] std::size_t unsent() const { return bytes_.size() - sent_; }
  [[nodiscard]] std::size_t size() const { return bytes_.size(); }
  [[nodiscard]] std::size_t capacity() const { return bytes_.capacity(); }
  // Sends, and keeps what the socket does not take. False: broken.
  bool send(int fd, std::string_view bytes);
  // Sends what is kept, as far as it goes.
  Outcome flush(int fd);
  void clear();

private:
  std::string bytes_;
  std::size_t sent_ = 0;
};

} // namespace tqfpm::web
