// A delay that grows with each failure and is forgotten after a success.
#pragma once

#include <algorithm>

#include "base/clock.h"

namespace tqfpm {

// The first delay, then twice as long each time, up to the longest.
class Backoff {
public:
  // What has run for `healthy` before it fails begins with the first delay again.
  Backoff(Duration first, Duration longest, Duration healthy = Duration::max())
      : first_(first), longest_(longest), healthy_(healthy) {}

  // How long to wait before another try.
  Duration failed() {
    delay_ = delay_ == Duration::zero() ? first_ : std::min(delay_ * 2, longest_);
    return delay_;
  }
  // The same for a thing that ran since `started` and failed at `now`.
  Duration failed(TimePoint started, TimePoint now) {
    if (now - started >= healthy_)
      succeeded();
    return failed();
  }
  void succeeded() { delay_ = Duration::zero(); }

private:
  Duration first_;
  Duration longest_;
  Duration healthy_;
  Duration delay_ = Duration::zero();
};

} // namespace tqfpm
