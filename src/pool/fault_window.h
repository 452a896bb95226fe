// Counts faults in a sliding window of time: php-fpm's emergency_restart_threshold and _interval.
#pragma once

#include <cstddef>
#include <deque>

#include "base/clock.h"

namespace tqfpm::pool {

class FaultWindow {
public:
  // threshold or interval zero: never too many.
  FaultWindow(std::size_t threshold, Duration interval) : threshold_(threshold), interval_(interval) {}

  // A fault at `now`. True: there were `threshold` of them within `interval`; counting begins anew.
  bool add(TimePoint now) {
    if (threshold_ == 0 || interval_ == Duration::zero())
      return false;
    faults_.push_back(now);
    while (now - faults_.front() > interval_)
      faults_.pop_front();
    if (faults_.size() < threshold_)
      return false;
    faults_.clear();
    return true;
  }

private:
  std::size_t threshold_;
  Duration interval_;
  std::deque<TimePoint> faults_; // at most `threshold` of them
};

} // namespace tqfpm::pool
