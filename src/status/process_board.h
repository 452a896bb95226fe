// How many workers all pools have together, for process.max: in shared memory, written by the dispatchers. The master
// gives back what a dispatcher held when it died.
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>

namespace tqfpm::status {

// Laid over a zeroed memory file.
class ProcessBoard {
public:
  static constexpr std::size_t kHolders = 16384; // dispatchers, old generations included

  // A cell for the dispatcher `pid`; kHolders when all are taken: that one's workers are not counted.
  std::size_t claim(std::int32_t pid) {
    for (std::size_t i = 0; i < kHolders; ++i) {
      const std::size_t index = (static_cast<std::size_t>(pid) + i) % kHolders;
      std::int32_t free = 0;
      if (holders_[index].pid.compare_exchange_strong(free, pid))
        return index;
    }
    return kHolders;
  }
  // Counts one more worker of a holder, unless there are `most` already (0: no limit).
  bool take(std::size_t holder, std::uint64_t most) {
    if (total_.fetch_add(1) >= most && most > 0) {
      total_.fetch_sub(1);
      return false;
    }
    if (holder < kHolders)
      holders_[holder].held.fetch_add(1);
    else
      total_.fetch_sub(1);
    return true;
  }
  void give(std::size_t holder) {
    if (holder >= kHolders)
      return;
    holders_[holder].held.fetch_sub(1);
    total_.fetch_sub(1);
  }
  // The dispatcher `pid` has gone, and so have its workers or soon will.
  void forget(std::int32_t pid) {
    for (Holder &each : holders_) {
      if (each.pid.load() != pid)
        continue;
      total_.fetch_sub(each.held.exchange(0));
      each.pid.store(0);
      return;
    }
  }
  // How many more there may be.
  [[nodiscard]] std::size_t room(std::uint64_t most) const {
    const std::uint64_t total = total_.load();
    return most == 0 ? SIZE_MAX : total < most ? most - total : 0;
  }

private:
  struct Holder {
    std::atomic<std::int32_t> pid;
    std::atomic<std::uint32_t> held;
  };
  std::atomic<std::uint32_t> total_;
  std::array<Holder, kHolders> holders_;
};
static_assert(std::atomic<std::int32_t>::is_always_lock_free);

} // namespace tqfpm::status
