#include "pool/process_manager.h"

#include <algorithm>

namespace tqfpm::pool {

namespace {
// A load around the limit is one episode, however often the queue is empty for a moment.
constexpr Duration kEpisodeGap = seconds(10);
constexpr Duration kShortPatience = seconds(1); // php-fpm looks once a second
constexpr Duration kLongPatience = seconds(64);
constexpr int kWave = 8;  // a load that is back within this many times the patience is one that comes and goes
constexpr int kCalm = 16; // without a wave in this many times the patience it is halved
constexpr Duration kStopInterval = milliseconds(100);
constexpr Duration kProcessMaxRetry = milliseconds(100); // another pool's worker may have ended: nobody tells
} // namespace

ProcessManager::ProcessManager(const ManagerSettings &settings, TimePoint now)
    : settings_(settings), patience_(kShortPatience), learned_at_(now),
      tokens_(static_cast<double>(settings.max_spawn_rate)), refilled_(now) {}

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

void ProcessManager::shrink(const PoolCounts &counts, TimePoint now, Decision &decision) {
  if (counts.idle == 0 || counts.queued > 0)
    return;
  if (settings_.kind == ManagerKind::kStatic) {
    const std::size_t alive = counts.idle + counts.busy + counts.starting;
    decision.stop = alive > settings_.max_children ? std::min(counts.idle, alive - settings_.max_children) : 0;
    decision.stop_before = now;
    return;
  }
  const bool dynamic = settings_.kind == ManagerKind::kDynamic;
  if (dynamic && counts.idle <= settings_.max_spare_servers)
    return;
  const Duration patience = dynamic ? patience_ : settings_.idle_timeout;
  const TimePoint due = std::max(counts.oldest_idle_since + patience, dynamic ? next_stop_ : TimePoint{});
  if (due > now) {
    decision.look_again = std::min(decision.look_again, due);
    return;
  }
  decision.stop = 1;
  // Of a dynamic pool any idle worker may be the one: the one with the most memory, say.
  decision.stop_before = dynamic ? now : now - patience;
  decision.look_again = now;
  if (dynamic)
    learn_from_stop(now);
}

void ProcessManager::learn_from_stop(TimePoint now) {
  if (patience_ > kShortPatience && now - learned_at_ >= patience_ * kCalm) {
    patience_ /= 2;
    learned_at_ = now;
  }
  stopped_at_ = now;
  next_stop_ = now + kStopInterval;
}

void ProcessManager::learn_from_start(TimePoint now) {
  if (stopped_at_ && now - *stopped_at_ < patience_ * kWave) {
    patience_ = std::min(patience_ * 2, kLongPatience);
    learned_at_ = now;
  }
  stopped_at_.reset();
}

bool ProcessManager::new_episode(std::optional<TimePoint> &last, TimePoint now) const {
  const bool is_new = !last || now - *last >= kEpisodeGap;
  last = now;
  return is_new;
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
  const std::size_t alive = counts.idle + counts.foreign + counts.busy + counts.starting + counts.stopping;
  const std::size_t room = alive < settings_.max_children ? settings_.max_children - alive : 0;
  const std::size_t ready = counts.idle + counts.starting + counts.stopping;
  std::size_t start = std::min(wanted(counts, alive), room);
  if (room == 0 && counts.queued > ready)
    decision.limit_reached = new_episode(exhausted_at_, now);
  if (start > counts.allowed) {
    if (counts.queued > ready)
      decision.process_max_reached = new_episode(no_room_at_, now);
    decision.look_again = now + kProcessMaxRetry;
    start = counts.allowed;
  }
  if (start > 0 && now < paused_until_) {
    decision.look_again = paused_until_;
    start = 0;
  }
  if (start > 0 && begun_)
    start = take_tokens(start, now, decision.look_again);
  decision.start = start;
  if (start > 0) {
    begun_ = true;
    learn_from_start(now);
  } else {
    shrink(counts, now, decision);
  }
  return decision;
}

void ProcessManager::start_failed(TimePoint now) {
  if (now < paused_until_)
    return; // several failures of one attempt count once
  paused_until_ = now + backoff_.failed();
}

void ProcessManager::start_succeeded() {
  backoff_.succeeded();
  paused_until_ = TimePoint{};
}

} // namespace tqfpm::pool
