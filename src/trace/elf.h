// The dynamic symbols of a program or library, found in the memory that it has been loaded into.
//
// Not in its file: that may lie in another root, may have been replaced by an upgrade since, and /proc/PID/exe is the
// loader where a php-cgi is started through one. Nothing that is read is believed: every count has a limit.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

#include "trace/memory.h"

namespace tqfpm::trace {

struct Symbol {
  Address address = 0;
  std::uint64_t size = 0;
};

class Image {
public:
  // The image whose ELF header was mapped at `base` (64-bit, little-endian). nullopt: there is none.
  static std::optional<Image> at(Memory &memory, Address base);
  // A symbol that the image defines and exports.
  std::optional<Symbol> find(Memory &memory, std::string_view name) const;

private:
  bool read_dynamic(Memory &memory, Address address, std::uint64_t length);
  std::optional<Symbol> symbol(Memory &memory, std::uint32_t index, std::string_view name) const;
  std::optional<Symbol> find_gnu(Memory &memory, std::string_view name) const;
  std::optional<Symbol> find_sysv(Memory &memory, std::string_view name) const;

  Address bias_ = 0; // from addresses in the file to those in memory
  Address symbols_ = 0;
  Address strings_ = 0;
  std::uint64_t strings_size_ = 0;
  Address gnu_hash_ = 0;
  Address sysv_hash_ = 0;
};

} // namespace tqfpm::trace
