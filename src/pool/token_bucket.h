// Limits a rate: so much for each second, and some seconds' worth at once.
#pragma once

#include <algorithm>

#include "base/clock.h"

namespace tqfpm::pool {

class TokenBucket {
public:
  // Begins full.
  TokenBucket(double per_second, double burst) : per_second_(per_second), burst_(burst), tokens_(burst) {}

  void refill(TimePoint now) {
    if (refilled_ != TimePoint{} && now > refilled_)
      tokens_ = std::min(burst_, tokens_ + std::chrono::duration<double>(now - refilled_).count() * per_second_);
    refilled_ = std::max(refilled_, now);
  }
  [[nodiscard]] bool has(double amount) const { return tokens_ >= std::min(amount, burst_); }
  void take(double amount) { tokens_ = std::max(0., tokens_ - amount); }

private:
  double per_second_;
  double burst_;
  double tokens_;
  TimePoint refilled_{};
};

} // namespace tqfpm::pool
