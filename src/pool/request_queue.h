// Requests that wait for a worker: first in, first out, bounded in length and in time.
#pragma once

#include <cstddef>
#include <cstdint>
#include <list>
#include <optional>
#include <unordered_map>

#include "base/clock.h"

namespace tqfpm::pool {

using RequestKey = std::uint64_t;
// Names a set of PHP settings, see workers/variants.h. 0: the pool's own.
using VariantNumber = std::uint32_t;

class RequestQueue {
public:
  // max_wait zero: no limit in time.
  RequestQueue(std::size_t max_length, Duration max_wait) : max_length_(max_length), max_wait_(max_wait) {}

  struct Entry {
    RequestKey key;
    VariantNumber variant; // of the worker that it needs
    TimePoint since;
  };

  // false: full, the request has to be refused.
  bool push(RequestKey key, VariantNumber variant, TimePoint now);
  std::optional<RequestKey> pop();
  // A request that had left the queue, and waits again since `since`: before all that have come later, also in a full
  // queue.
  void put_back(RequestKey key, VariantNumber variant, TimePoint since);
  // A request whose client has gone. false: it was not waiting.
  bool remove(RequestKey key);
  // The first request that has waited too long, taken off the queue.
  std::optional<RequestKey> pop_expired(TimePoint now);
  // When the first request will have waited too long; TimePoint::max() if none will.
  [[nodiscard]] TimePoint next_deadline() const;
  [[nodiscard]] std::size_t length() const { return entries_.size(); }
  [[nodiscard]] std::size_t longest() const { return longest_; } // the most that ever waited
  [[nodiscard]] std::size_t max_length() const { return max_length_; }
  [[nodiscard]] const std::list<Entry> &entries() const { return entries_; } // oldest first

private:
  std::size_t max_length_;
  Duration max_wait_;
  std::list<Entry> entries_;
  std::unordered_map<RequestKey, std::list<Entry>::iterator> index_;
  std::size_t longest_ = 0;
};

} // namespace tqfpm::pool
