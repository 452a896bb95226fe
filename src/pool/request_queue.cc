#include "pool/request_queue.h"

#include <algorithm>

namespace tqfpm::pool {

bool RequestQueue::push(RequestKey key, VariantNumber variant, TimePoint now) {
  if (entries_.size() >= max_length_)
    return false;
  entries_.push_back(Entry{key, variant, now});
  index_[key] = std::prev(entries_.end());
  longest_ = std::max(longest_, entries_.size());
  return true;
}

std::optional<RequestKey> RequestQueue::pop() {
  if (entries_.empty())
    return std::nullopt;
  const RequestKey key = entries_.front().key;
  index_.erase(key);
  entries_.pop_front();
  return key;
}

void RequestQueue::put_back(RequestKey key, VariantNumber variant, TimePoint since) {
  const auto later = std::find_if(entries_.begin(), entries_.end(), [&](const Entry &e) { return e.since > since; });
  index_[key] = entries_.insert(later, Entry{key, variant, since});
  longest_ = std::max(longest_, entries_.size());
}

bool RequestQueue::remove(RequestKey key) {
  const auto found = index_.find(key);
  if (found == index_.end())
    return false;
  entries_.erase(found->second);
  index_.erase(found);
  return true;
}

std::optional<RequestKey> RequestQueue::pop_expired(TimePoint now) {
  if (next_deadline() > now)
    return std::nullopt;
  return pop();
}

TimePoint RequestQueue::next_deadline() const {
  if (entries_.empty() || max_wait_ == Duration::zero())
    return TimePoint::max();
  return entries_.front().since + max_wait_;
}

} // namespace tqfpm::pool
