// Time that grows with the length of the input alone, whatever is in it.
#pragma once

#include <string>
#include <string_view>

#include "growth.h"
#include "input.h"

namespace tqfpm::fuzz {

// One input of many, whatever has come to it: the check below takes as long as a thousand others.
inline bool now_and_then(std::string_view input) {
  std::uint32_t hash = 2166136261U;
  for (const char c : input)
    hash = (hash ^ static_cast<unsigned char>(c)) * 16777619U;
  return hash % 1024 == 0;
}

// `work` with `text` over and over, so and eight times so long: eight times the time, and not 64 times. Others use the
// processor, too: one good try is enough.
template <typename Work> void check_linear(std::string_view text, std::size_t small, const Work &work) {
  constexpr int kTries = 5;
  constexpr double kMost = 24;
  std::string texts[2];
  for (std::size_t which = 0; which < 2 && !text.empty(); ++which) {
    const std::size_t length = which == 0 ? small : small * 8;
    while (texts[which].size() < length)
      texts[which] += text;
    texts[which].resize(length);
  }
  for (int i = 0; i < kTries; ++i) {
    if (growth([&](int which) { work(texts[which]); }) < kMost)
      return;
  }
  FUZZ_CHECK(false && "time grows with the length");
}

} // namespace tqfpm::fuzz
