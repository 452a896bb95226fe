// Memory files: sealed buffers that are passed to other processes.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

#include "base/result.h"
#include "sys/fd.h"

namespace tqfpm::sys {

// A memfd of exactly `size` zero bytes; its size is sealed, so that no holder can make another one's mapping fault.
Result<Fd> memory_file(const std::string &name, std::size_t size);
// A memfd with `content`, sealed against every change.
Result<Fd> sealed_text(const std::string &name, std::string_view content);

// A mapping of a memory file, unmapped when it goes.
class Mapping {
public:
  static Result<Mapping> map(int fd, std::size_t size);
  Mapping(Mapping &&other) noexcept;
  Mapping &operator=(Mapping &&other) noexcept;
  Mapping(const Mapping &) = delete;
  Mapping &operator=(const Mapping &) = delete;
  ~Mapping();
  [[nodiscard]] void *data() const { return data_; }
  // Processes that are forked from now on do not have it.
  void keep_to_itself() const;

private:
  Mapping(void *data, std::size_t size) : data_(data), size_(size) {}
  void *data_;
  std::size_t size_;
};

} // namespace tqfpm::sys
