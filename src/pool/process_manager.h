// How many workers a pool should have: php-fpm's static, dynamic and ondemand, decided from counts and the clock.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>

#include "base/backoff.h"
#include "base/clock.h"

namespace tqfpm::pool {

enum class ManagerKind : std::uint8_t { kStatic, kDynamic, kOnDemand };

struct ManagerSettings {
  ManagerKind kind = ManagerKind::kDynamic;
  std::size_t max_children = 1;      // static: as many as this, always
  std::size_t start_servers = 1;     // dynamic: at the beginning
  std::size_t min_spare_servers = 1; // dynamic: idle ones kept ready
  std::size_t max_spare_servers = 1; // dynamic: idle ones kept at most
  std::size_t max_spawn_rate = 32;   // starts per second at most; static and ondemand: no limit
  Duration idle_timeout = seconds(10);
};

// What the manager looks at. idle + foreign + busy + starting + stopping = all processes of the pool.
struct PoolCounts {
  std::size_t idle = 0;
  std::size_t foreign = 0;        // idle, but with other PHP settings than the requests that wait need
  std::size_t busy = 0;           // all that are occupied, see WorkerState
  std::size_t starting = 0;       // will be idle
  std::size_t stopping = 0;       // still there, will be gone
  std::size_t queued = 0;         // requests that wait for a worker
  TimePoint oldest_idle_since{};  // when the least recently idle worker became idle; only with idle > 0
  std::size_t allowed = SIZE_MAX; // starts that process.max leaves to this pool
};

struct Decision {
  std::size_t start = 0;                   // workers to start now
  std::size_t stop = 0;                    // idle workers to end now; of those idle since `stop_before` at the latest
  TimePoint stop_before{};                 // only with stop > 0
  bool limit_reached = false;              // requests wait and max_children is reached: a new episode has begun
  bool process_max_reached = false;        // the same for process.max
  TimePoint look_again = TimePoint::max(); // decide again at the latest then, if nothing happens
};

// The workers of a load that comes and goes are not ended and started with each wave: how long a surplus worker
// (dynamic) is idle before it ends is doubled, from one second to a minute, whenever the load is back soon after one
// was ended, and is halved again in a time without waves.
class ProcessManager {
public:
  ProcessManager(const ManagerSettings &settings, TimePoint now);
  Decision decide(const PoolCounts &counts, TimePoint now);
  // A worker failed to start, or died before it was ready: starts pause, with a growing delay (100 ms to 30 s).
  void start_failed(TimePoint now);
  void start_succeeded();
  [[nodiscard]] TimePoint paused_until() const { return paused_until_; }

private:
  [[nodiscard]] std::size_t wanted(const PoolCounts &counts, std::size_t alive) const;
  void shrink(const PoolCounts &counts, TimePoint now, Decision &decision);
  void learn_from_start(TimePoint now);
  void learn_from_stop(TimePoint now);
  [[nodiscard]] bool new_episode(std::optional<TimePoint> &last, TimePoint now) const;
  std::size_t take_tokens(std::size_t wanted, TimePoint now, TimePoint &look_again);

  ManagerSettings settings_;
  bool begun_ = false;                    // dynamic: start_servers have been asked for
  std::optional<TimePoint> exhausted_at_; // max_children reached, requests waiting: the last time
  std::optional<TimePoint> no_room_at_;   // process.max reached, requests waiting: the last time
  Duration patience_;                     // dynamic: idle time of a surplus worker
  std::optional<TimePoint> stopped_at_;   // the last time that a surplus worker was ended, no start since
  TimePoint learned_at_;                  // when `patience_` was changed last
  TimePoint next_stop_{};
  double tokens_; // starts that max_spawn_rate allows now
  TimePoint refilled_;
  TimePoint paused_until_{};
  Backoff backoff_{milliseconds(100), seconds(30)};
};

} // namespace tqfpm::pool
