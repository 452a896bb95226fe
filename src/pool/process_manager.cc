#include "pool/process_manager.h"

#include <algorithm>

namespace tqfpm::pool {

namespace {
// A load around the limit is one episode, however often the queue is empty for a moment.
constexpr Duration kEpisodeGap = seconds(10);
} // namespace

ProcessManager::ProcessManager(const ManagerSettings &settings, TimePoint now)
    : settings_(settings), tokens_(static_cast<double>(settings.max_spawn_rate)), refilled_(now) {}

// Workers that should be started, before any limit.
std::size_t ProcessManager::wanted(const PoolCounts &counts, std::size_t alive) const {
  const std::size_t ready = counts.idle + counts.starting;
  const std::size_t waiting = counts.queued > ready ? counts.queued - ready : 0;
  switch (settings_.kind) {
  case ManagerKind::kStatic:
    return alive < settings_.max_children ? settings_.max_children - alive : 0;
  case ManagerKind::kOnDemand:
    return waiting;
  case ManagerKind::kDynamic:
    break;
  }
  const std::size_t goal = begun_ ? settings_.min_spare_servers : settings_.start_servers;
  // Queued requests will take ready workers; the spares are wanted on top of them.
  const std::size_t needed = goal + counts.queued;
  return needed > ready ? needed - ready : 0;
}

std::size_t ProcessManager::surplus(const PoolCounts &counts, TimePoint now, TimePoint &look_again) const {
  if (counts.idle == 0 || counts.queued > 0)
    return 0;
  if (settings_.kind == ManagerKind::kStatic) {
    const std::size_t alive = counts.idle + counts.busy + counts.starting;
    return alive > settings_.max_children ? std::min(counts.idle, alive - settings_.max_children) : 0;
  }
  if (settings_.kind == ManagerKind::kDynamic && counts.idle <= settings_.max_spare_servers)
    return 0;
  // One at a time and only when idle for long: a load that flaps does not flap workers. php-fpm ends one a second.
  const Duration patience = settings_.kind == ManagerKind::kDynamic ? Duration(seconds(1)) : settings_.idle_timeout;
  const TimePoint due = counts.oldest_idle_since + patience;
  if (due <= now)
    return 1;
  look_again = std::min(look_again, due);
  return 0;
}

std::size_t ProcessManager::take_tokens(std::size_t wanted, TimePoint now, TimePoint &look_again) {
  if (settings_.kind != ManagerKind::kDynamic)
    return wanted;
  const double rate = static_cast<double>(settings_.max_spawn_rate);
  const double elapsed = std::chrono::duration<double>(now - refilled_).count();
  tokens_ = std::min(rate, tokens_ + elapsed * rate);
  refilled_ = now;
  const std::size_t allowed = std::min(wanted, static_cast<std::size_t>(tokens_));
  tokens_ -= static_cast<double>(allowed);
  if (allowed < wanted)
    look_again = std::min(look_again, now + milliseconds(1 + static_cast<int>(1000.0 / rate)));
  return allowed;
}

Decision ProcessManager::decide(const PoolCounts &counts, TimePoint now) {
  Decision decision;
  const std::size_t alive = counts.idle + counts.busy + counts.starting + counts.stopping;
  const std::size_t want = wanted(counts, alive);
  const std::size_t room = alive < settings_.max_children ? settings_.max_children - alive : 0;
  const std::size_t ready = counts.idle + counts.starting + counts.stopping;
  const bool exhausted = room == 0 && counts.queued > ready;
  if (exhausted) {
    decision.limit_reached = !exhausted_at_ || now - *exhausted_at_ >= kEpisodeGap;
    exhausted_at_ = now;
  }
  std::size_t start = std::min(want, room);
  if (start > 0 && now < paused_until_) {
    decision.look_again = paused_until_;
    start = 0;
  }
  if (start > 0 && begun_)
    start = take_tokens(start, now, decision.look_again);
  decision.start = start;
  if (start > 0)
    begun_ = true;
  if (start == 0)
    decision.stop = surplus(counts, now, decision.look_again);
  if (decision.stop > 0)
    decision.look_again = std::min(decision.look_again, now);
  return decision;
}

void ProcessManager::start_failed(TimePoint now) {
  if (now < paused_until_)
    return; // several failures of one attempt count once
  const unsigned shift = std::min(failures_, 9U);
  paused_until_ = now + std::min<Duration>(milliseconds(100) * (1U << shift), seconds(30));
  ++failures_;
}

void ProcessManager::start_succeeded() {
  failures_ = 0;
  paused_until_ = TimePoint{};
}

} // namespace tqfpm::pool
