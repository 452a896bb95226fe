#include "trace/memory.h"

namespace tqfpm::trace {

std::optional<std::string> read_c_string(Memory &memory, Address address, std::size_t most) {
  std::string text;
  for (std::size_t i = 0; i < most; ++i) {
    const auto c = read_value<char>(memory, address + i); // byte by byte: the next page may not be there
    if (!c)
      return std::nullopt;
    if (*c == 0)
      return text;
    text += *c;
  }
  return std::nullopt;
}

} // namespace tqfpm::trace
