// A delay that grows with each failure and is forgotten after a time of good health.
#pragma once

#include <algorithm>

#include "base/clock.h"

namespace tqfpm::pool {

class Backoff {
public:
  Backoff(Duration first, Duration longest, Duration healthy) : first_(first), longest_(longest), healthy_(healthy) {}

  // A thing that ran since `started` failed at `now`: how long to wait before it is started again.
  Duration failed(TimePoint started, TimePoint now) {
    if (now - started >= healthy_)
      delay_ = Duration::zero();
    delay_ = delay_ == Duration::zero() ? first_ : std::min(delay_ * 2, longest_);
    return delay_;
  }

private:
  Duration first_, longest_, healthy_;
  Duration delay_ = Duration::zero();
};

} // namespace tqfpm::pool
