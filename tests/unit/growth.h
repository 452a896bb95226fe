// How the time of a function grows with its input, without a clock's absolute value.
#pragma once

#include <algorithm>
#include <cstdint>
#include <ctime>

namespace tqfpm {

// How many times the processor's time of work(0) work(1) takes: the best of several runs each, one after the other, so
// that a busy machine slows both. With an input of eight times the size: 8 where time is linear, 64 where it is
// quadratic.
template <typename Work> double growth(const Work &work) {
  constexpr int kRuns = 5;
  std::int64_t best[2] = {INT64_MAX, INT64_MAX};
  for (int run = 0; run < kRuns; ++run) {
    for (int large = 0; large < 2; ++large) {
      timespec before{};
      timespec after{};
      (void)clock_gettime(CLOCK_THREAD_CPUTIME_ID, &before);
      work(large);
      (void)clock_gettime(CLOCK_THREAD_CPUTIME_ID, &after);
      const std::int64_t took = (after.tv_sec - before.tv_sec) * 1'000'000'000LL + after.tv_nsec - before.tv_nsec;
      best[large] = std::min(best[large], std::max<std::int64_t>(took, 1));
    }
  }
  return static_cast<double>(best[1]) / static_cast<double>(best[0]);
}

} // namespace tqfpm
