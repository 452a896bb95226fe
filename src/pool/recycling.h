// When a worker has served enough: pm.max_requests, spread out, so that workers that came up together do not end
// together.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <random>

namespace tqfpm::pool {

class Recycling {
public:
  // max_requests 0: never.
  Recycling(std::uint64_t max_requests, std::size_t max_children, std::uint32_t seed)
      : max_requests_(max_requests), at_once_(std::max<std::size_t>(1, max_children / 4)), random_(seed) {}

  // Requests after which a new worker is due: pm.max_requests or up to a quarter fewer, never more. 0: never.
  std::uint64_t limit() {
    const std::uint64_t spread = max_requests_ / 4;
    return spread == 0 ? max_requests_ : max_requests_ - random_() % (spread + 1);
  }
  // Does a worker with that limit end now, after `served` requests, while `in_progress` workers end or come up? At most
  // a quarter of the pool is on its way at the same time; who has to wait for that goes on, but never beyond
  // pm.max_requests.
  [[nodiscard]] bool due(std::uint64_t served, std::uint64_t limit, std::size_t in_progress) const {
    return limit > 0 && served >= limit && (served >= max_requests_ || in_progress < at_once_);
  }

private:
  std::uint64_t max_requests_;
  std::size_t at_once_;
  std::minstd_rand random_;
};

} // namespace tqfpm::pool
