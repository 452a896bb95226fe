// Which workers a pool has and what each is doing. Pure bookkeeping: every change of state goes through here, so that
// the counts always sum and the idle workers are always in order of use.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <vector>

#include "base/clock.h"
#include "pool/request_queue.h"

namespace tqfpm::pool {

// Names one worker for ever: a slot is used again, its generation never.
struct WorkerId {
  std::uint32_t index = 0;
  std::uint32_t generation = 0;
  bool operator==(const WorkerId &) const = default;
};

// What a worker is doing. A worker that is "occupied" has, or may still have, a script that runs.
//
//   from          to
//   kFree         kStarting (start() alone)
//   kStarting     kIdle, kStopping
//   kIdle         kBusy, kReturning, kCutOff, kStopping
//   kBusy         kIdle, kAbandoned, kFinishing, kReturning, kProbed, kCutOff, kStopping
//   kAbandoned    kIdle, kReturning, kProbed, kCutOff, kStopping
//   kFinishing    kIdle, kReturning, kProbed, kCutOff, kStopping
//   kReturning    kIdle, kProbed, kCutOff, kStopping
//   kProbed       kIdle, kCutOff, kStopping
//   kCutOff       kIdle, kReturning, kProbed, kStopping
//   kStopping     - (it goes by remove() alone)
//
// Any state may be set again, which only moves since(); remove() is allowed from all of them.
enum class WorkerState : std::uint8_t {
  kFree,      // no worker in this slot
  kStarting,  // asked for, has not said that it is ready
  kIdle,      // can take a request
  kBusy,      // has a request
  kAbandoned, // its client has gone; the script perhaps still runs
  kFinishing, // its client has the whole answer, the script goes on
  kReturning, // its request is over; it has no connection yet and will ask for one
  kProbed,    // php.spawn = exec: it is asked whether it is idle again
  kCutOff,    // its connection has gone: its end, or its next accept(), will tell
  kStopping,  // has been told to end, or has ended
};
inline constexpr std::size_t kWorkerStates = 10;

// Neither free for a request, nor on its way up or down.
constexpr bool is_occupied(WorkerState state) {
  return state >= WorkerState::kBusy && state <= WorkerState::kCutOff;
}
[[nodiscard]] bool may_become(WorkerState from, WorkerState to);

class WorkerTable {
public:
  explicit WorkerTable(std::size_t slots);

  // A free slot becomes kStarting. nullopt: all are in use. `variant`: the settings that the worker has for ever.
  std::optional<WorkerId> start(TimePoint now, VariantNumber variant = 0);
  // Is the worker still the one that had this id?
  [[nodiscard]] bool valid(WorkerId id) const;
  [[nodiscard]] WorkerState state(WorkerId id) const;
  // Moves a worker to another state, one of those that may follow. Idle workers are a stack: the one that became idle
  // last is on top.
  void set(WorkerId id, WorkerState state, TimePoint now);
  // The worker has gone; its slot is free.
  void remove(WorkerId id);

  // Most recently idle worker of a variant, to give work to; least recently idle one of all, to end.
  [[nodiscard]] std::optional<WorkerId> newest_idle(VariantNumber variant = 0) const;
  [[nodiscard]] std::optional<WorkerId> oldest_idle() const;
  // The one that became idle next after the idle worker `id`.
  [[nodiscard]] std::optional<WorkerId> next_idle(WorkerId id) const;
  [[nodiscard]] TimePoint since(WorkerId id) const; // when it entered its state
  [[nodiscard]] VariantNumber variant(WorkerId id) const;

  [[nodiscard]] std::size_t count(WorkerState state) const { return counts_[static_cast<std::size_t>(state)]; }
  [[nodiscard]] std::size_t count(WorkerState state, VariantNumber variant) const;
  [[nodiscard]] std::size_t occupied() const; // of all that is_occupied() is true for
  [[nodiscard]] std::size_t occupied(VariantNumber variant) const;
  [[nodiscard]] std::size_t slots() const { return slots_.size(); }
  [[nodiscard]] std::size_t total() const { return slots_.size() - count(WorkerState::kFree); }
  // The worker in slot `index`, if any.
  [[nodiscard]] std::optional<WorkerId> at(std::size_t index) const;

private:
  static constexpr std::uint32_t kNone = UINT32_MAX;
  struct Slot {
    WorkerState state = WorkerState::kFree;
    std::uint32_t generation = 0;
    VariantNumber variant = 0;
    std::uint32_t older = kNone; // in the idle stack, or the next free slot
    std::uint32_t newer = kNone;
    TimePoint since{};
  };
  void count(const Slot &slot, int change);
  void push_idle(std::uint32_t index);
  void unlink_idle(std::uint32_t index);

  std::vector<Slot> slots_;
  using Counts = std::array<std::size_t, kWorkerStates>;
  Counts counts_{};
  std::vector<Counts> by_variant_; // kFree is not counted
  std::uint32_t newest_ = kNone;
  std::uint32_t oldest_ = kNone;
  std::uint32_t free_ = kNone;
};

} // namespace tqfpm::pool
