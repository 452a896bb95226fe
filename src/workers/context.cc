#include "workers/context.h"

namespace tqfpm::workers {

namespace {
constexpr Duration kShortestStop = seconds(1);
constexpr Duration kEarly = seconds(2); // from this pool's readiness until surely all of them are

pool::ManagerSettings manager_settings(const config::PoolConfig &pool) {
  pool::ManagerSettings settings;
  switch (pool.pm) {
  case config::ProcessManagerKind::kStatic:
    settings.kind = pool::ManagerKind::kStatic;
    break;
  case config::ProcessManagerKind::kUnset: // the rules do not let it pass
  case config::ProcessManagerKind::kDynamic:
    settings.kind = pool::ManagerKind::kDynamic;
    break;
  case config::ProcessManagerKind::kOnDemand:
    settings.kind = pool::ManagerKind::kOnDemand;
    break;
  }
  settings.max_children = static_cast<std::size_t>(pool.pm_max_children);
  settings.start_servers = static_cast<std::size_t>(pool.pm_start_servers);
  settings.min_spare_servers = static_cast<std::size_t>(pool.pm_min_spare_servers);
  settings.max_spare_servers = static_cast<std::size_t>(pool.pm_max_spare_servers);
  settings.max_spawn_rate = static_cast<std::size_t>(pool.pm_max_spawn_rate);
  settings.idle_timeout = pool.pm_process_idle_timeout;
  return settings;
}

// How long a spawner or a template may owe an answer.
Duration silence_of(const config::GlobalConfig &global) {
  return global.watchdog_timeout > Duration::zero() ? global.watchdog_timeout : Duration::max();
}

pool::Deadlines deadlines_of(const config::PoolConfig &pool, const config::GlobalConfig &global, bool fork_mode) {
  pool::Deadlines deadlines;
  deadlines.first_sign = std::min(deadlines.first_sign, silence_of(global));
  deadlines.terminate = pool.request_terminate_timeout;
  deadlines.grace = pool.request_terminate_grace;
  if (pool.request_terminate_timeout > Duration::zero()) // a script's time is limited, in whatever way it does not end
    deadlines.stop = std::min(deadlines.stop, std::max<Duration>(deadlines.grace, kShortestStop));
  deadlines.probes = !fork_mode;
  return deadlines;
}

} // namespace

Context::Context(sys::EventLoop &event_loop, const config::PoolConfig &pool_config, const WorkersSettings &settings,
                 spawner::SpawnerProcess &process)
    : loop(event_loop), pool(pool_config), global(settings.global), scoreboard(settings.scoreboard),
      board(settings.processes), holder(board.claim(settings.system.self())), measures(settings.measures),
      deadlines(deadlines_of(pool, settings.global, settings.fork_mode)), manager(manager_settings(pool), loop.now()),
      // Twice the children: ones that end make no room for a while.
      roster(loop, static_cast<std::size_t>(pool.pm_max_children) * 2, deadlines),
      children(settings.system, process.pid), spawner(loop, std::move(process.control), silence_of(settings.global)),
      variants(loop, pool, global, scoreboard, roster, children, spawner),
      slow_log(loop, pool, scoreboard, spawner, roster), fork_mode(settings.fork_mode) {}

void Context::be_ready(TimePoint now) {
  if (phase != Phase::kComing)
    return;
  phase = Phase::kReady;
  variants.start_lines().say_at(now + kEarly);
  events.push(Event::Kind::kReady);
}

void Context::fail(const std::string &why) {
  if (phase != Phase::kComing)
    return;
  phase = Phase::kFailed;
  events.push(Event::Kind::kFailed, why);
}

bool Context::outdated(const Worker &worker) const {
  const pool::VariantNumber variant = roster.variant(worker);
  return fork_mode && variants.ready(variant) && worker.life.batch != variants.batch(variant);
}

} // namespace tqfpm::workers
