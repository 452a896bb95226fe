// What a fuzz target makes of the bytes it is given.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <string_view>

namespace tqfpm::fuzz {

// Takes numbers and texts off the front; zeros and empty texts when nothing is left, so that every input means
// something.
class Input {
public:
  Input(const std::uint8_t *data, std::size_t size) : rest_(reinterpret_cast<const char *>(data), size) {}

  [[nodiscard]] bool empty() const { return rest_.empty(); }
  [[nodiscard]] std::string_view rest() const { return rest_; }
  std::uint8_t byte() {
    const std::string_view one = take(1);
    return one.empty() ? std::uint8_t{0} : static_cast<std::uint8_t>(one.front());
  }
  bool flag() { return (byte() & 1U) != 0; }
  // A number below `limit`, which is at most 65536.
  std::size_t below(std::size_t limit) {
    const std::size_t high = limit > 256 ? byte() : 0U;
    return (high << 8U | byte()) % limit;
  }
  std::string_view take(std::size_t length) {
    const std::string_view front = rest_.substr(0, length);
    rest_.remove_prefix(front.size());
    return front;
  }
  // A text that says its own length.
  std::string text(std::size_t most = 255) { return std::string(take(std::min<std::size_t>(byte(), most))); }

private:
  std::string_view rest_;
};

} // namespace tqfpm::fuzz

// Ends the run with the input kept: what must always be true was not.
#define FUZZ_CHECK(condition)                                                                                          \
  do {                                                                                                                 \
    if (!(condition)) {                                                                                                \
      std::fprintf(stderr, "%s:%d: not true: %s\n", __FILE__, __LINE__, #condition);                                   \
      std::abort();                                                                                                    \
    }                                                                                                                  \
  } while (false)

// Each target defines this one; libFuzzer calls it.
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t *data, std::size_t size);
