// Time inside tqfpm: one monotonic clock, read by the process folders and handed to the pure ones.
#pragma once

#include <chrono>

namespace tqfpm {

using Clock = std::chrono::steady_clock;
using TimePoint = Clock::time_point;
using Duration = Clock::duration;
using std::chrono::microseconds;
using std::chrono::milliseconds;
using std::chrono::seconds;

} // namespace tqfpm
