#include "dispatcher/crew.h"

#include <fcntl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstring>
#include <ctime>

#include "base/text.h"
#include "dispatcher/client.h"
#include "fcgi/writer.h"
#include "sys/log.h"
#include "sys/proc_info.h"
#include "sys/socket.h"

namespace tqfpm::dispatcher {

using pool::WorkerId;
using pool::WorkerState;
using status::Metric;

namespace {

constexpr Duration kWeighInterval = milliseconds(200);
constexpr Duration kStartRetry = milliseconds(100);
constexpr std::size_t kStartsAtOnce = 128;

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

// php-fpm's words where it has one.
const char *state_name(WorkerState state) {
  switch (state) {
  case WorkerState::kStarting:
    return "Starting";
  case WorkerState::kIdle:
    return "Idle";
  case WorkerState::kBusy:
    return "Running";
  case WorkerState::kAborting:
    return "Finishing";
  case WorkerState::kStopping:
    return "Ending";
  case WorkerState::kFree:
    break;
  }
  return "?";
}

} // namespace

Crew::Crew(sys::EventLoop &loop, CrewOwner &owner, const config::PoolConfig &pool, const CrewSettings &settings,
           spawner::SpawnerProcess spawner)
    : loop_(loop), owner_(owner), pool_(pool), scoreboard_(settings.scoreboard), processes_(settings.processes),
      process_max_(static_cast<std::uint64_t>(settings.global.process_max)), holder_(processes_.claim(::getpid())),
      // Twice the children: ones that end make no room for a while.
      table_(static_cast<std::size_t>(pool.pm_max_children) * 2), manager_(manager_settings(pool), Clock::now()),
      recycling_(static_cast<std::uint64_t>(pool.pm_max_requests), static_cast<std::size_t>(pool.pm_max_children),
                 static_cast<std::uint32_t>(::getpid())),
      backends_(table_.slots()), spawner_(std::move(spawner)), fork_mode_(settings.fork_mode),
      log_limit_(static_cast<std::size_t>(settings.global.log_limit)), log_buffering_(settings.global.log_buffering),
      measures_(settings.measures), faults_(static_cast<std::size_t>(settings.global.emergency_restart_threshold),
                                            settings.global.emergency_restart_interval),
      slow_log_(loop, static_cast<SlowLogOwner &>(*this), pool, scoreboard_),
      early_timer_(loop, [this] { say_early_lines(); }), decide_timer_(loop, [this] { owner_.crew_changed(); }),
      deadline_timer_(loop, [this] { check_deadlines(); }) {
  link_ = std::make_unique<spawner::SpawnerLink>(
      loop_, std::move(spawner_.control), [this](const ipc::SpawnerReply &reply) { spawner_replied(reply); },
      [this](const ipc::TraceReply &reply) { slow_log_.answered(reply); },
      [] { sys::log().debug("the spawner has closed its control socket"); });
  variants_.push_back(std::make_unique<Variant>(loop_, static_cast<VariantOwner &>(*this), 0, "", sys::Fd()));
  live_variants_ = 1;
  scoreboard_.set(Metric::php_variants, live_variants_);
}

Crew::~Crew() {
  processes_.forget(::getpid());
}

void Crew::begin() {
  if (fork_mode_)
    own_variant().start();
  else if (pool_.pm == config::ProcessManagerKind::kOnDemand) {
    ready_ = true;
    owner_.crew_ready();
  } else {
    owner_.crew_changed();
  }
}

Backend *Crew::find(WorkerId id) const {
  return table_.valid(id) ? backends_[id.index].get() : nullptr;
}

pool::PoolCounts Crew::counts(std::size_t queued) const {
  pool::PoolCounts counts;
  counts.idle = table_.count(WorkerState::kIdle);
  counts.busy = table_.count(WorkerState::kBusy) + table_.count(WorkerState::kAborting);
  counts.starting = table_.count(WorkerState::kStarting);
  counts.stopping = table_.count(WorkerState::kStopping);
  counts.queued = queued;
  counts.allowed = processes_.room(process_max_);
  if (const auto oldest = table_.oldest_idle())
    counts.oldest_idle_since = table_.since(*oldest);
  return counts;
}

// From a template before the one that is ready now?
bool Crew::outdated(const Backend &backend) const {
  const Variant &variant = variant_of(backend);
  return fork_mode_ && variant.ready() && backend.batch != variant.batch();
}

pool::Match Crew::match(const std::list<pool::RequestQueue::Entry> &queue) const {
  std::vector<pool::VariantSupply> supply(variants_.size());
  for (const auto &variant : variants_) {
    if (variant == nullptr)
      continue;
    pool::VariantSupply &own = supply[variant->number()];
    own.idle = table_.count(WorkerState::kIdle, variant->number());
    own.coming = fork_mode_ && variant->coming() ? SIZE_MAX : table_.count(WorkerState::kStarting, variant->number());
  }
  const auto most = static_cast<std::size_t>(pool_.pm_max_children);
  return pool::match(queue, std::move(supply), table_.count(WorkerState::kStopping),
                     most - std::min(most, table_.total()));
}

void Crew::update_gauges() {
  if (draining_)
    return; // the gauges are the next generation's
  const std::uint64_t busy = table_.count(WorkerState::kBusy) + table_.count(WorkerState::kAborting);
  scoreboard_.set(Metric::idle_workers, table_.count(WorkerState::kIdle));
  scoreboard_.set(Metric::busy_workers, busy);
  scoreboard_.set(Metric::starting_workers,
                  table_.count(WorkerState::kStarting) + table_.count(WorkerState::kStopping));
  scoreboard_.raise(Metric::max_busy_workers, busy);
}

void Crew::decide(std::size_t queued, const pool::Match &wanted, bool draining) {
  draining_ = draining;
  queued_ = queued;
  for (const pool::VariantNumber number : wanted.evict)
    evict(number);
  pool::PoolCounts now_counts = counts(queued);
  if (!wanted.start.empty())
    now_counts.foreign = std::exchange(now_counts.idle, 0);
  const pool::Decision decision = manager_.decide(now_counts, Clock::now());
  say_limits(decision);
  std::size_t start = decision.start;
  if (draining) { // no spares any more
    const std::size_t coming = now_counts.idle + now_counts.starting;
    start = std::min(start, queued > coming ? queued - coming : 0);
  }
  // More orders than these do not fit into the template's socket; each worker that comes up decides anew.
  start = std::min(start, kStartsAtOnce - std::min(kStartsAtOnce, now_counts.starting));
  bool all = true;
  for (std::size_t i = 0; i < start; ++i)
    all = start_worker(i < wanted.start.size() ? wanted.start[i] : spare_variant(wanted)) && all;
  for (std::size_t i = 0; i < decision.stop; ++i) {
    if (const auto surplus = surplus_worker(decision.stop_before))
      stop_worker(*backends_[surplus->index], Metric::ended_idle);
  }
  const TimePoint retry = std::max(manager_.paused_until(), Clock::now() + kStartRetry);
  decide_timer_.at(all ? decision.look_again : std::min(decision.look_again, retry));
  update_gauges();
}

// Which settings a worker gets that nobody waits for: those that are in use, if PHP starts with them.
pool::VariantNumber Crew::spare_variant(const pool::Match &wanted) const {
  const pool::VariantNumber number = wanted.start.empty() ? last_variant_ : wanted.start.back();
  return Clock::now() < variants_[number]->refused_until ? 0 : number;
}

// An idle worker goes so that one with other settings can come.
void Crew::evict(pool::VariantNumber number) {
  for (auto each = table_.oldest_idle(); each; each = table_.next_idle(*each)) {
    if (table_.variant(*each) == number) {
      stop_worker(*backends_[each->index], Metric::ended_settings);
      return;
    }
  }
}

void Crew::say_limits(const pool::Decision &decision) {
  if (decision.limit_reached) {
    scoreboard_.add(Metric::max_children_reached);
    sys::log().warning("[pool {}] server reached pm.max_children setting ({}), consider raising it", pool_.name,
                       pool_.pm_max_children);
  }
  if (decision.process_max_reached)
    sys::log().warning("[pool {}] The maximum number of processes has been reached. Please review your configuration "
                       "and consider raising 'process.max' ({})",
                       pool_.name, process_max_);
}

// Of the workers that are idle since then at the latest: the one with the most memory of its own. The least recently
// used one where that cannot be told.
std::optional<WorkerId> Crew::surplus_worker(TimePoint idle_since) const {
  constexpr int kLooks = 64; // the loop must not stand still in a pool of thousands
  std::optional<WorkerId> chosen;
  std::uint64_t most = 0;
  auto each = table_.oldest_idle();
  for (int i = 0; each && i < kLooks && table_.since(*each) <= idle_since; ++i, each = table_.next_idle(*each)) {
    const auto use = sys::memory_use(backends_[each->index]->pid);
    const std::uint64_t own = use ? use->resident - std::min(use->shared, use->resident) : 0;
    if (!chosen || own > most) {
      chosen = each;
      most = own;
    }
  }
  return chosen;
}

// --- requests -------------------------------------------------------------------------------------------------------

bool Crew::assign(Request &request, WorkerId id, std::string head) {
  Backend &backend = *backends_[id.index];
  const TimePoint now = Clock::now();
  if (!backend.connected() && (fork_mode_ || !dial(backend))) {
    table_.set(id, WorkerState::kAborting, now);
    return false;
  }
  if (early_)
    say_early_lines();
  table_.set(id, WorkerState::kBusy, now);
  last_variant_ = table_.variant(id);
  request.worker = id;
  request.worker_pid = backend.pid;
  backend.terminated = false;
  backend.work_since = now;
  measure_start(backend, measures_);
  backend.assign(request, std::move(head));
  if (pool_.request_terminate_timeout > Duration::zero())
    arm_deadline(now + pool_.request_terminate_timeout);
  arm_deadline(slow_log_.due(request.started));
  update_gauges();
  return true;
}

bool Crew::still_runs(WorkerId worker, pool::RequestKey request) const {
  const Backend *backend = find(worker);
  return backend != nullptr && backend->request() != nullptr && backend->request()->key == request;
}

void Crew::pump(WorkerId id) {
  if (Backend *backend = find(id))
    backend->pump();
}

void Crew::abandon(Request &request) {
  Backend *backend = find(request.worker);
  if (backend == nullptr || backend->request() != &request)
    return;
  backend->left_work = work_text(request);
  backend->abandon();
  table_.set(request.worker, WorkerState::kAborting, Clock::now());
  if (!fork_mode_)
    probe(*backend);
}

void Crew::worker_response(Backend &backend, std::string_view records, const fcgi::ResponseScan &scan) {
  Request *request = backend.request();
  if (request == nullptr) { // the answer to a probe: php-cgi is at its accept() again
    backend.disconnect();
    now_idle(backend);
    return;
  }
  if (scan.ended) {
    measure_end(backend, *request, measures_);
    backend.take_output(); // its lines belong to the request, and are in the log when the client has its answer
  }
  owner_.request_response(*request, records, scan);
  if (!scan.ended)
    return;
  scoreboard_.add(Metric::php_requests);
  backend.work_since = TimePoint{};
  if (table_.state(backend.id()) != WorkerState::kStopping)
    after_request(backend);
}

void Crew::after_request(Backend &backend) {
  if (recycle(backend)) {
    owner_.crew_changed();
    return;
  }
  // What the script left running and has ended is waited for by the worker when it takes a new connection.
  if (fork_mode_ && pool_.process_kill_descendants && !sys::children_of(backend.pid).empty())
    backend.disconnect();
  if (backend.connected()) {
    now_idle(backend);
    return;
  }
  table_.set(backend.id(), WorkerState::kAborting, Clock::now());
  if (!fork_mode_)
    probe(backend);
}

bool Crew::recycle(Backend &backend) {
  const std::size_t in_progress = table_.count(WorkerState::kStopping) + table_.count(WorkerState::kStarting);
  const bool worn = recycling_.due(backend.served, backend.limit, in_progress);
  if (!worn && !backend.overweight) {
    weigh(backend);
    return false;
  }
  stop_worker(backend, worn ? Metric::ended_max_requests : Metric::ended_max_memory);
  return true;
}

// What a worker shares with others counts in parts: only the spawner, which is of its user, can read that. It is asked
// when all pages together are too many, and not for each of many short requests.
void Crew::weigh(Backend &backend) {
  const TimePoint now = Clock::now();
  if (pool_.pm_max_memory.value == 0 || now - backend.weighed < kWeighInterval)
    return;
  const auto use = sys::memory_use(backend.pid);
  if (!use || use->resident <= pool_.pm_max_memory.value)
    return;
  backend.weighed = now;
  (void)link_->send(ipc::SpawnerRequest{ipc::SpawnKind::kWeigh, 0, backend.pid, 0, 0}); // or after another request
}

void Crew::weighed(const ipc::SpawnerReply &reply) {
  const auto found = by_pid_.find(reply.pid);
  if (found == by_pid_.end() || std::uint64_t{reply.memory} * 1024 <= pool_.pm_max_memory.value)
    return;
  Backend &backend = *backends_[found->second.index];
  backend.overweight = true;
  sys::log().notice("[pool {}] child {} has {} MiB of memory (pm.max_memory): it is replaced", pool_.name, backend.pid,
                    reply.memory / 1024);
  if (table_.state(backend.id()) == WorkerState::kIdle) {
    stop_worker(backend, Metric::ended_max_memory);
    owner_.crew_changed();
  }
}

void Crew::worker_disconnected(Backend &backend, bool returned) {
  const WorkerState state = table_.state(backend.id());
  if (state == WorkerState::kIdle || state == WorkerState::kBusy)
    table_.set(backend.id(), WorkerState::kAborting, Clock::now());
  Request *request = backend.request();
  if (request != nullptr && returned) {
    backend.abandon();
    owner_.request_returned(*request);
  }
  // Otherwise its end, or its next accept(), says what has happened; the request is answered then.
  if (backend.probing) { // exec mode: it went before it could answer
    backend.probing = false;
    kill_worker(backend, Metric::ended_killed);
  } else if (!fork_mode_ && table_.state(backend.id()) == WorkerState::kAborting) {
    arm_deadline(Clock::now() + kReturnPatience); // nothing tells its next accept() there
  }
}

// The client has its answer; the worker has work and is not free.
void Crew::worker_finished_early(Backend &backend) {
  Request &request = *backend.request();
  backend.left_work = work_text(request);
  if (!pool_.request_terminate_timeout_track_finished)
    backend.work_since = TimePoint{};
  std::string record;
  fcgi::append_end_request(record, request.id, 0, fcgi::ProtocolStatus::kRequestComplete);
  fcgi::ResponseScan scan;
  scan.consumed = record.size();
  scan.ended = true;
  backend.let_go();
  if (table_.state(backend.id()) != WorkerState::kStopping)
    table_.set(backend.id(), WorkerState::kAborting, Clock::now());
  scoreboard_.add(Metric::finished_early);
  owner_.request_response(request, record, scan);
}

void Crew::worker_came_back(Backend &backend) {
  scoreboard_.add(Metric::php_requests);
  backend.work_since = TimePoint{};
  if (table_.state(backend.id()) != WorkerState::kStopping)
    after_request(backend);
}

void Crew::worker_muttered(Backend &backend, std::string_view text) {
  for (const std::string &line : split(text, "\n")) {
    if (pool_.catch_workers_output)
      sys::log().said(pool_.name, backend.pid, "stderr", line);
  }
}

void Crew::worker_misbehaved(Backend &backend, const char *what) {
  sys::log().warning("[pool {}] child {} sent {}: killed", pool_.name, backend.pid, what);
  backend.disconnect();
  if (table_.state(backend.id()) != WorkerState::kStopping)
    table_.set(backend.id(), WorkerState::kAborting, Clock::now());
  kill_worker(backend, Metric::ended_killed);
}

void Crew::now_idle(Backend &backend) {
  const WorkerState before = table_.state(backend.id());
  if (before == WorkerState::kStopping)
    return;
  if (before == WorkerState::kStarting) {
    manager_.start_succeeded();
    scoreboard_.add(Metric::workers_started);
    if (replacing_)
      sys::log().notice("[pool {}] child {} started", pool_.name, backend.pid);
    else
      sys::log().debug("[pool {}] child {} started", pool_.name, backend.pid);
    replacing_ = false;
    if (orphans_wait_)
      kill_orphans();
  }
  table_.set(backend.id(), WorkerState::kIdle, Clock::now());
  backend.work_since = TimePoint{};
  if (outdated(backend))
    stop_worker(backend, Metric::ended_renewed);
  be_ready();
  owner_.crew_changed();
}

std::vector<status::WorkerView> Crew::view() const {
  std::vector<status::WorkerView> views;
  const TimePoint now = Clock::now();
  const std::time_t wall = std::time(nullptr);
  constexpr std::size_t kLooks = 128;
  std::size_t looks = kLooks;
  for (std::size_t i = 0; i < backends_.size(); ++i) {
    const auto id = table_.at(i);
    if (!id)
      continue;
    Backend &backend = *backends_[i];
    // Of a big pool a part at a time: the page must not hold up the loop.
    const bool look = looks > 0 && (table_.total() <= kLooks || backend.usage.last.memory == 0);
    looks -= look ? 1 : 0;
    views.push_back(view_of(backend, state_name(table_.state(*id)), now, wall, look));
  }
  return views;
}

void Crew::finish() {
  draining_ = true;
  for (std::size_t i = 0; i < backends_.size(); ++i) {
    const auto id = table_.at(i);
    if (!id)
      continue;
    // One whose pid is not known yet is let come up: nobody would notice its end otherwise.
    const bool starting = table_.state(*id) == WorkerState::kStarting && backends_[i]->pid > 0;
    if (starting || table_.state(*id) == WorkerState::kIdle)
      stop_worker(*backends_[i], Metric::ended_drained);
  }
}

void Crew::kill_all() {
  for (std::size_t i = 0; i < backends_.size(); ++i) {
    if (table_.at(i)) {
      kill_worker(*backends_[i], Metric::ended_drained);
    }
  }
}

} // namespace tqfpm::dispatcher
