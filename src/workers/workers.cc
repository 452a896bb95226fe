#include "workers/workers.h"

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstring>
#include <ctime>

#include "base/wait_status.h"
#include "sys/log.h"
#include "sys/proc_info.h"
#include "workers/context.h"
#include "workers/ending.h"
#include "workers/exec_launcher.h"
#include "workers/fork_launcher.h"
#include "workers/patience.h"
#include "workers/running.h"
#include "workers/starting.h"
#include "workers/worker_log.h"

namespace tqfpm::workers {

using pool::WorkerId;
using pool::WorkerState;
using status::Metric;

namespace {

constexpr std::size_t kStartsAtOnce = 128;

// php-fpm's words where it has one.
const char *state_name(WorkerState state) {
  switch (state) {
  case WorkerState::kStarting:
    return "Starting";
  case WorkerState::kIdle:
    return "Idle";
  case WorkerState::kBusy:
    return "Running";
  case WorkerState::kAbandoned:
  case WorkerState::kFinishing:
  case WorkerState::kReturning:
  case WorkerState::kProbed:
  case WorkerState::kCutOff:
    return "Finishing";
  case WorkerState::kStopping:
    return "Ending";
  case WorkerState::kFree:
    break;
  }
  return "?";
}

std::unique_ptr<Launcher> launcher_for(Context &context) {
  if (context.fork_mode)
    return std::make_unique<ForkLauncher>(context.loop, context.pool.name, context.roster, context.children,
                                          context.variants);
  return std::make_unique<ExecLauncher>(context.loop, context.pool, context.roster, context.children, context.variants,
                                        context.spawner);
}

} // namespace

struct Workers::Parts {
  Parts(sys::EventLoop &loop, const config::PoolConfig &pool, const WorkersSettings &settings, SpawnerProcess process)
      : context(loop, pool, settings, process), log(loop, pool, context.global, context.roster), ending(context, log),
        starting(context, log, ending), running(context, log, ending, starting),
        patience(context, log, ending, starting, running), spawner_pid(process.pid), wake(loop, [] {}) {
    context.launcher = launcher_for(context);
  }

  bool step(TimePoint now);
  void child_ended(const Children::Ended &ended, TimePoint now);
  void spawner_ended(const std::string &how);
  [[nodiscard]] pool::PoolCounts counts(std::size_t queued) const;
  void say_limits(const pool::Decision &decision) const;
  void evict(pool::VariantNumber number, TimePoint now);
  [[nodiscard]] pool::VariantNumber spare_variant(const pool::Match &wanted, TimePoint now) const;
  [[nodiscard]] Worker *surplus_worker(TimePoint idle_since) const;
  void update_gauges() const;

  Context context;
  WorkerLog log;
  Ending ending;
  Starting starting;
  Running running;
  Patience patience;
  pid_t spawner_pid;    // -1: it has ended
  bool heard = false;   // in this turn: what new workers have said
  sys::TimerWatch wake; // for a round: when decide() wants one, or something is left to be told
};

Workers::Workers(sys::EventLoop &loop, const config::PoolConfig &pool, const WorkersSettings &settings,
                 SpawnerProcess spawner)
    : parts_(std::make_unique<Parts>(loop, pool, settings, std::move(spawner))) {}

Workers::~Workers() {
  Context &context = parts_->context;
  context.board.forget(context.children.system().self());
}

void Workers::begin() {
  parts_->starting.begin(parts_->context.loop.now());
}

void Workers::note_children() {
  parts_->context.children.note();
}

// --- the round ------------------------------------------------------------------------------------------------------

bool Workers::next(Event &event) {
  Events &events = parts_->context.events;
  while (events.empty()) {
    if (!parts_->step(parts_->context.loop.now()))
      return false;
  }
  event = events.pop();
  return true;
}

// One thing at a time, ends first. False: nothing is left to do in this turn.
bool Workers::Parts::step(TimePoint now) {
  // A worker that died at once: its HELLO, which tells its pid, is still unread.
  if (context.children.noted() && !std::exchange(heard, true))
    context.launcher->hear_new();
  if (LaunchTold told; context.launcher->next(told)) {
    running.told(told, now);
    return true;
  }
  if (Children::Ended ended; context.children.next(ended)) {
    child_ended(ended, now);
    return true;
  }
  if (context.spawner.step(now))
    return true;
  if (Variants::Told told; context.variants.next(told, now)) {
    starting.template_told(told, now);
    return true;
  }
  return running.step(now) || patience.step(now);
}

void Workers::Parts::child_ended(const Children::Ended &ended, TimePoint now) {
  switch (ended.who.kind) {
  case Children::Kind::kWorker:
    if (Worker *worker = context.roster.find(ended.who.worker); worker != nullptr && !worker->dead())
      ending.ended(*worker, ended.status, now);
    return;
  case Children::Kind::kTemplate:
    context.variants.ended(ended.pid, ended.status);
    break;
  case Children::Kind::kSpawner:
    spawner_ended(end_text(ended.status));
    return;
  case Children::Kind::kStranger:
    break;
  }
  ending.kill_orphans(); // what a script has left behind, or a template: its children are ours now
}

void Workers::Parts::spawner_ended(const std::string &how) {
  sys::log().warning("[pool {}] the spawner {}", context.pool.name, how);
  spawner_pid = -1;
  context.spawner.ended();
  context.fail("the spawner " + how + "; see the messages above");
  if (context.phase == Context::Phase::kReady && !context.draining)
    context.events.push(Event::Kind::kWornOut);
}

void Workers::settle(TimePoint now) {
  Context &context = parts_->context;
  if (!context.spawner.alive() && parts_->spawner_pid > 0) // of no use any more: its end tells the rest
    (void)context.children.system().kill(parts_->spawner_pid, SIGKILL);
  context.launcher->settle();
  context.spawner.settle(now);
  context.variants.settle(now);
  parts_->running.settle(now);
  context.roster.sweep();
  parts_->heard = false;
  const bool more_ends = context.children.settle();
  if (more_ends || !context.events.empty())
    parts_->wake.no_later_than(now);
  parts_->update_gauges();
}

void Workers::Parts::update_gauges() const {
  if (context.draining)
    return; // the gauges are the next generation's
  const pool::WorkerTable &table = context.roster.table();
  const std::uint64_t busy = table.occupied();
  status::Scoreboard &board = context.scoreboard;
  board.set(Metric::idle_workers, table.count(WorkerState::kIdle));
  board.set(Metric::busy_workers, busy);
  board.set(Metric::starting_workers, table.count(WorkerState::kStarting) + table.count(WorkerState::kStopping));
  board.raise(Metric::max_busy_workers, busy);
}

// --- how many -------------------------------------------------------------------------------------------------------

std::optional<WorkerId> Workers::idle_worker(pool::VariantNumber variant) const {
  return table().newest_idle(variant);
}

pool::Match Workers::match(const std::list<pool::RequestQueue::Entry> &queue) const {
  const Context &context = parts_->context;
  std::vector<pool::VariantSupply> supply(context.variants.size());
  for (std::size_t i = 0; i < supply.size(); ++i) {
    const auto number = static_cast<pool::VariantNumber>(i);
    if (!context.variants.known(number))
      continue;
    supply[i].idle = table().count(WorkerState::kIdle, number);
    supply[i].coming =
        context.fork_mode && context.variants.coming(number) ? SIZE_MAX : table().count(WorkerState::kStarting, number);
  }
  const auto most = static_cast<std::size_t>(context.pool.pm_max_children);
  return pool::match(queue, std::move(supply), table().count(WorkerState::kStopping),
                     most - std::min(most, table().total()));
}

pool::PoolCounts Workers::Parts::counts(std::size_t queued) const {
  const pool::WorkerTable &table = context.roster.table();
  pool::PoolCounts counts;
  counts.idle = table.count(WorkerState::kIdle);
  counts.busy = table.occupied();
  counts.starting = table.count(WorkerState::kStarting);
  counts.stopping = table.count(WorkerState::kStopping);
  counts.queued = queued;
  counts.allowed = context.board.room(static_cast<std::uint64_t>(context.global.process_max));
  if (const auto oldest = table.oldest_idle())
    counts.oldest_idle_since = table.since(*oldest);
  return counts;
}

void Workers::decide(std::size_t queued, const pool::Match &wanted, bool draining, TimePoint now) {
  Parts &parts = *parts_;
  parts.context.draining = draining;
  parts.context.queued = queued;
  if (parts.context.phase == Context::Phase::kComing && parts.context.fork_mode && !parts.context.variants.ready(0))
    return; // nothing can be started; the template's READY decides
  for (const pool::VariantNumber number : wanted.evict)
    parts.evict(number, now);
  pool::PoolCounts counts = parts.counts(queued);
  if (!wanted.start.empty())
    counts.foreign = std::exchange(counts.idle, 0);
  const pool::Decision decision = parts.context.manager.decide(counts, now);
  parts.say_limits(decision);
  std::size_t start = decision.start;
  if (draining) { // no spares any more
    const std::size_t coming = counts.idle + counts.starting;
    start = std::min(start, queued > coming ? queued - coming : 0);
  }
  // More orders than these do not fit into the template's socket; each worker that comes up decides anew.
  start = std::min(start, kStartsAtOnce - std::min(kStartsAtOnce, counts.starting));
  bool all = true;
  for (std::size_t i = 0; i < start; ++i)
    all =
        parts.starting.start(i < wanted.start.size() ? wanted.start[i] : parts.spare_variant(wanted, now), now) && all;
  for (std::size_t i = 0; i < decision.stop; ++i) {
    if (Worker *surplus = parts.surplus_worker(decision.stop_before))
      parts.ending.stop(*surplus, Metric::ended_idle, now);
  }
  parts.wake.at(all ? decision.look_again : std::min(decision.look_again, parts.starting.retry_at(now)));
}

// Which settings a worker gets that nobody waits for: those that are in use, if PHP starts with them.
pool::VariantNumber Workers::Parts::spare_variant(const pool::Match &wanted, TimePoint now) const {
  const pool::VariantNumber number = wanted.start.empty() ? context.variants.last_used() : wanted.start.back();
  return context.variants.refused(number, now) ? 0 : number;
}

// An idle worker goes so that one with other settings can come.
void Workers::Parts::evict(pool::VariantNumber number, TimePoint now) {
  const pool::WorkerTable &table = context.roster.table();
  for (auto each = table.oldest_idle(); each; each = table.next_idle(*each)) {
    if (table.variant(*each) == number) {
      ending.stop(*context.roster.find(*each), Metric::ended_settings, now);
      return;
    }
  }
}

void Workers::Parts::say_limits(const pool::Decision &decision) const {
  if (decision.limit_reached) {
    context.scoreboard.add(Metric::max_children_reached);
    sys::log().warning("[pool {}] server reached pm.max_children setting ({}), consider raising it", context.pool.name,
                       context.pool.pm_max_children);
  }
  if (decision.process_max_reached)
    sys::log().warning("[pool {}] The maximum number of processes has been reached. Please review your configuration "
                       "and consider raising 'process.max' ({})",
                       context.pool.name, context.global.process_max);
}

// Of the workers that are idle since then at the latest: the one with the most memory of its own. The least recently
// used one where that cannot be told.
Worker *Workers::Parts::surplus_worker(TimePoint idle_since) const {
  constexpr int kLooks = 64; // the loop must not stand still in a pool of thousands
  const pool::WorkerTable &table = context.roster.table();
  Worker *chosen = nullptr;
  std::uint64_t most = 0;
  auto each = table.oldest_idle();
  for (int i = 0; each && i < kLooks && table.since(*each) <= idle_since; ++i, each = table.next_idle(*each)) {
    Worker *worker = context.roster.find(*each);
    const auto use = sys::memory_use(worker->pid);
    const std::uint64_t own = use ? use->resident - std::min(use->shared, use->resident) : 0;
    if (chosen == nullptr || own > most) {
      chosen = worker;
      most = own;
    }
  }
  return chosen;
}

void Workers::finish() {
  Context &context = parts_->context;
  const TimePoint now = context.loop.now();
  context.draining = true;
  if (context.queued > 0)
    return;
  context.variants.drop_all(now);
  for (std::size_t i = 0; i < context.roster.slots(); ++i) {
    Worker *worker = context.roster.at(i);
    if (worker == nullptr)
      continue;
    // One whose pid is not known yet is let come up: nobody would notice its end otherwise.
    const WorkerState state = context.roster.state(*worker);
    if (state == WorkerState::kIdle || (state == WorkerState::kStarting && worker->pid > 0))
      parts_->ending.stop(*worker, Metric::ended_drained, now);
  }
}

void Workers::kill_all() {
  Context &context = parts_->context;
  for (std::size_t i = 0; i < context.roster.slots(); ++i) {
    Worker *worker = context.roster.at(i);
    if (worker != nullptr && !worker->dead())
      parts_->ending.kill(*worker, Metric::ended_drained, context.loop.now());
  }
  context.variants.kill_all();
}

// --- requests and settings ------------------------------------------------------------------------------------------

bool Workers::assign(pool::Request &request, WorkerId id, std::string head, TimePoint now) {
  return parts_->running.assign(request, id, std::move(head), now);
}

void Workers::pump(pool::Request &request, bool hold) {
  parts_->running.pump(request, hold, parts_->context.loop.now());
}

void Workers::abandon(pool::Request &request) {
  parts_->running.abandon(request, parts_->context.loop.now());
}

void Workers::send_status(WorkerId id, const std::string &text) {
  Worker *worker = parts_->context.roster.find(id);
  if (worker == nullptr || worker->dead() || parts_->context.launcher->send_status(*worker, text))
    return;
  if (errno == EAGAIN) { // it asks on and on, and takes no answer
    parts_->ending.misbehaved(*worker, "more questions for the status than it has read answers",
                              parts_->context.loop.now());
    return;
  }
  sys::log().warning("[pool {}] cannot answer fpm_get_status() of child {}: {}", parts_->context.pool.name, worker->pid,
                     strerror(errno));
}

std::optional<pool::VariantNumber> Workers::variant(const std::string &key,
                                                    const std::function<Result<sys::Fd>()> &settings) {
  return parts_->context.variants.acquire(key, settings, parts_->context.loop.now());
}

void Workers::release(pool::VariantNumber variant) {
  const TimePoint now = parts_->context.loop.now();
  if (parts_->context.variants.release(variant, now))
    parts_->wake.no_later_than(now); // others may wait for its template to go
}

std::size_t Workers::variants() const {
  return parts_->context.variants.live();
}

SpawnerLink &Workers::spawner() {
  return parts_->context.spawner;
}

SlowLog &Workers::slow_log() {
  return parts_->context.slow_log;
}

const pool::WorkerTable &Workers::table() const {
  return parts_->context.roster.table();
}

std::vector<status::WorkerView> Workers::view() const {
  const Roster &roster = parts_->context.roster;
  std::vector<status::WorkerView> views;
  const TimePoint now = parts_->context.loop.now();
  const std::time_t wall = std::time(nullptr);
  constexpr std::size_t kLooks = 128;
  std::size_t looks = kLooks;
  for (std::size_t i = 0; i < roster.slots(); ++i) {
    Worker *worker = roster.at(i);
    if (worker == nullptr || worker->pid < 0)
      continue; // an order to start one is no process
    // Of a big pool a part at a time: the page must not hold up the loop.
    const bool look = looks > 0 && (table().total() <= kLooks || worker->usage.last.memory == 0);
    looks -= look ? 1 : 0;
    views.push_back(view_of(*worker, state_name(roster.state(*worker)), now, wall, look));
  }
  return views;
}

} // namespace tqfpm::workers
