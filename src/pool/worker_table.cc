#include "pool/worker_table.h"

#include "base/result.h"

namespace tqfpm::pool {

namespace {

constexpr unsigned bit(WorkerState state) {
  return 1U << static_cast<unsigned>(state);
}

// The table at WorkerState; remove() and start() are not in it.
constexpr unsigned followers(WorkerState from) {
  using enum WorkerState;
  constexpr unsigned kAlways = bit(kIdle) | bit(kStopping);
  switch (from) {
  case kFree:
  case kStopping:
    return 0;
  case kStarting:
    return kAlways;
  case kIdle:
    return kAlways | bit(kBusy) | bit(kReturning) | bit(kCutOff);
  case kBusy:
    return kAlways | bit(kAbandoned) | bit(kFinishing) | bit(kReturning) | bit(kProbed) | bit(kCutOff);
  case kAbandoned:
  case kFinishing:
    return kAlways | bit(kReturning) | bit(kProbed) | bit(kCutOff);
  case kReturning:
    return kAlways | bit(kProbed) | bit(kCutOff);
  case kProbed:
    return kAlways | bit(kCutOff);
  case kCutOff:
    return kAlways | bit(kReturning) | bit(kProbed);
  }
  return 0;
}

} // namespace

bool may_become(WorkerState from, WorkerState to) {
  return (from == to && from != WorkerState::kFree) || (followers(from) & bit(to)) != 0;
}

WorkerTable::WorkerTable(std::size_t slots) : slots_(slots) {
  counts_[static_cast<std::size_t>(WorkerState::kFree)] = slots;
  for (std::size_t i = slots; i-- > 0;) {
    slots_[i].older = free_;
    free_ = static_cast<std::uint32_t>(i);
  }
}

std::optional<WorkerId> WorkerTable::start(TimePoint now, VariantNumber variant) {
  if (free_ == kNone)
    return std::nullopt;
  const std::uint32_t index = free_;
  Slot &slot = slots_[index];
  free_ = slot.older;
  slot.older = slot.newer = kNone;
  count(slot, -1);
  slot.state = WorkerState::kStarting;
  slot.since = now;
  slot.variant = variant;
  ++slot.generation;
  count(slot, 1);
  return WorkerId{index, slot.generation};
}

bool WorkerTable::valid(WorkerId id) const {
  return id.index < slots_.size() && slots_[id.index].generation == id.generation &&
         slots_[id.index].state != WorkerState::kFree;
}

WorkerState WorkerTable::state(WorkerId id) const {
  return valid(id) ? slots_[id.index].state : WorkerState::kFree;
}

TimePoint WorkerTable::since(WorkerId id) const {
  TQFPM_ASSERT(valid(id));
  return slots_[id.index].since;
}

void WorkerTable::set(WorkerId id, WorkerState state, TimePoint now) {
  TQFPM_ASSERT(valid(id));
  Slot &slot = slots_[id.index];
  TQFPM_ASSERT(may_become(slot.state, state));
  if (slot.state == WorkerState::kIdle)
    unlink_idle(id.index);
  count(slot, -1);
  slot.state = state;
  count(slot, 1);
  slot.since = now;
  if (state == WorkerState::kIdle)
    push_idle(id.index);
}

void WorkerTable::remove(WorkerId id) {
  TQFPM_ASSERT(valid(id));
  Slot &slot = slots_[id.index];
  if (slot.state == WorkerState::kIdle)
    unlink_idle(id.index);
  count(slot, -1);
  slot.state = WorkerState::kFree;
  count(slot, 1);
  slot.newer = kNone;
  slot.older = free_;
  free_ = id.index;
}

void WorkerTable::count(const Slot &slot, int change) {
  const auto state = static_cast<std::size_t>(slot.state);
  counts_[state] += static_cast<std::size_t>(change);
  if (slot.state == WorkerState::kFree)
    return;
  if (by_variant_.size() <= slot.variant)
    by_variant_.resize(slot.variant + 1);
  by_variant_[slot.variant][state] += static_cast<std::size_t>(change);
}

std::size_t WorkerTable::count(WorkerState state, VariantNumber variant) const {
  return variant < by_variant_.size() ? by_variant_[variant][static_cast<std::size_t>(state)] : 0;
}

std::size_t WorkerTable::occupied() const {
  std::size_t sum = 0;
  for (std::size_t i = 0; i < kWorkerStates; ++i)
    sum += is_occupied(static_cast<WorkerState>(i)) ? counts_[i] : 0;
  return sum;
}

std::size_t WorkerTable::occupied(VariantNumber variant) const {
  std::size_t sum = 0;
  for (std::size_t i = 0; i < kWorkerStates; ++i)
    sum += is_occupied(static_cast<WorkerState>(i)) ? count(static_cast<WorkerState>(i), variant) : 0;
  return sum;
}

VariantNumber WorkerTable::variant(WorkerId id) const {
  TQFPM_ASSERT(valid(id));
  return slots_[id.index].variant;
}

std::optional<WorkerId> WorkerTable::newest_idle(VariantNumber variant) const {
  std::uint32_t index = newest_;
  while (index != kNone && slots_[index].variant != variant)
    index = slots_[index].older;
  return index == kNone ? std::nullopt : std::optional(WorkerId{index, slots_[index].generation});
}

std::optional<WorkerId> WorkerTable::oldest_idle() const {
  if (oldest_ == kNone)
    return std::nullopt;
  return WorkerId{oldest_, slots_[oldest_].generation};
}

std::optional<WorkerId> WorkerTable::next_idle(WorkerId id) const {
  TQFPM_ASSERT(state(id) == WorkerState::kIdle);
  const std::uint32_t next = slots_[id.index].newer;
  return next == kNone ? std::nullopt : std::optional(WorkerId{next, slots_[next].generation});
}

std::optional<WorkerId> WorkerTable::at(std::size_t index) const {
  if (index >= slots_.size() || slots_[index].state == WorkerState::kFree)
    return std::nullopt;
  return WorkerId{static_cast<std::uint32_t>(index), slots_[index].generation};
}

void WorkerTable::push_idle(std::uint32_t index) {
  Slot &slot = slots_[index];
  slot.older = newest_;
  slot.newer = kNone;
  if (newest_ != kNone)
    slots_[newest_].newer = index;
  newest_ = index;
  if (oldest_ == kNone)
    oldest_ = index;
}

void WorkerTable::unlink_idle(std::uint32_t index) {
  Slot &slot = slots_[index];
  (slot.newer == kNone ? newest_ : slots_[slot.newer].older) = slot.older;
  (slot.older == kNone ? oldest_ : slots_[slot.older].newer) = slot.newer;
  slot.older = slot.newer = kNone;
}

} // namespace tqfpm::pool
