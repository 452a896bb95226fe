// Reading another process's memory, as pure code sees it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <optional>
#include <string>

namespace tqfpm::trace {

using Address = std::uint64_t; // in the process that is read

class Memory {
public:
  virtual ~Memory() = default;
  // All of `length` bytes at `address`, or false.
  virtual bool read(Address address, void *buffer, std::size_t length) = 0;
};

template <typename T> std::optional<T> read_value(Memory &memory, Address address) {
  T value{};
  return memory.read(address, &value, sizeof value) ? std::optional(value) : std::nullopt;
}

// A part of a structure that has been read as a whole; `offset` is the caller's and lies inside.
template <typename T> T value_at(const unsigned char *bytes, std::size_t offset) {
  T value;
  memcpy(&value, bytes + offset, sizeof value);
  return value;
}

// Text that a zero byte ends, at most `most` bytes. nullopt: unreadable, or no end.
std::optional<std::string> read_c_string(Memory &memory, Address address, std::size_t most);

} // namespace tqfpm::trace
