#include "dispatcher/crew.h"

#include <fcntl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstring>
#include <ctime>

#include "dispatcher/client.h"
#include "sys/log.h"
#include "sys/socket.h"

namespace tqfpm::dispatcher {

using pool::WorkerId;
using pool::WorkerState;
using status::Metric;

namespace {

constexpr Duration kStopPatience = seconds(10);     // from the channel's end to SIGKILL
constexpr Duration kTerminatePatience = seconds(2); // from SIGPROF to SIGKILL

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

double age_of(const Backend &backend) {
  return std::chrono::duration<double>(Clock::now() - backend.spawned()).count();
}

} // namespace

std::string end_text(int status) {
  if (WIFSIGNALED(status)) {
    const int number = WTERMSIG(status);
    const char *name = sigabbrev_np(number);
    return fmt::format("exited on signal {} (SIG{}{})", number, name != nullptr ? name : "?",
                       WCOREDUMP(status) ? " - core dumped" : "");
  }
  return fmt::format("exited with code {}", WEXITSTATUS(status));
}

Crew::Crew(sys::EventLoop &loop, CrewOwner &owner, const config::PoolConfig &pool, CrewSettings settings,
           SpawnerProcess spawner, status::Scoreboard &scoreboard)
    : loop_(loop), owner_(owner), pool_(pool), scoreboard_(scoreboard),
      // Twice the children: ones that end make no room for a while.
      table_(static_cast<std::size_t>(pool.pm_max_children) * 2), manager_(manager_settings(pool), Clock::now()),
      backends_(table_.slots()), spawner_(std::move(spawner)), fork_mode_(settings.fork_mode),
      log_limit_(settings.log_limit), decide_timer_(loop, [this] { owner_.crew_changed(); }),
      deadline_timer_(loop, [this] { check_deadlines(); }), template_timer_(loop, [this] { template_due(); }) {
  link_ = std::make_unique<SpawnerLink>(
      loop_, std::move(spawner_.control), [this](const ipc::SpawnerReply &reply) { spawner_replied(reply); },
      [] { sys::log().debug("the spawner has closed its control socket"); });
}

Crew::~Crew() = default;

void Crew::begin() {
  if (fork_mode_)
    start_template();
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
  if (const auto oldest = table_.oldest_idle())
    counts.oldest_idle_since = table_.since(*oldest);
  return counts;
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

void Crew::decide(std::size_t queued, bool draining) {
  draining_ = draining;
  if (fork_mode_ && (template_ == nullptr || !template_->ready)) {
    update_gauges();
    return; // the template's READY decides again
  }
  const pool::PoolCounts now_counts = counts(queued);
  const pool::Decision decision = manager_.decide(now_counts, Clock::now());
  std::size_t start = decision.start;
  if (draining) {
    const std::size_t coming = now_counts.idle + now_counts.starting;
    start = std::min(start, queued > coming ? queued - coming : 0);
  }
  if (decision.limit_reached) {
    scoreboard_.add(Metric::max_children_reached);
    sys::log().warning("[pool {}] server reached pm.max_children setting ({}), consider raising it", pool_.name,
                       pool_.pm_max_children);
  }
  for (std::size_t i = 0; i < start; ++i)
    start_worker();
  for (std::size_t i = 0; i < decision.stop; ++i) {
    if (const auto oldest = table_.oldest_idle())
      stop_worker(*backends_[oldest->index]);
  }
  decide_timer_.at(decision.look_again);
  update_gauges();
}

// --- requests -------------------------------------------------------------------------------------------------------

bool Crew::assign(Request &request, WorkerId id, std::string head) {
  Backend &backend = *backends_[id.index];
  const TimePoint now = Clock::now();
  if (!backend.connected() && (fork_mode_ || !dial(backend))) {
    table_.set(id, WorkerState::kAborting, now);
    return false;
  }
  table_.set(id, WorkerState::kBusy, now);
  request.worker = id;
  request.worker_pid = backend.pid;
  backend.terminated = false;
  backend.assign(request, std::move(head));
  if (pool_.request_terminate_timeout > Duration::zero())
    arm_deadline(now + pool_.request_terminate_timeout);
  update_gauges();
  return true;
}

void Crew::pump(WorkerId id) {
  if (Backend *backend = find(id))
    backend->pump();
}

void Crew::abandon(Request &request) {
  Backend *backend = find(request.worker);
  if (backend == nullptr || backend->request() != &request)
    return;
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
  owner_.request_response(*request, records, scan);
  if (!scan.ended)
    return;
  if (backend.errors != nullptr) { // its lines belong to the request that has ended
    backend.output->drain();
    backend.errors->drain();
    backend.output->flush();
    backend.errors->flush();
  }
  scoreboard_.add(Metric::php_requests);
  const auto limit = static_cast<std::uint64_t>(pool_.pm_max_requests);
  if (table_.state(backend.id()) == WorkerState::kStopping)
    return;
  if (limit > 0 && backend.served >= limit) {
    scoreboard_.add(Metric::workers_recycled);
    stop_worker(backend);
    owner_.crew_changed();
  } else if (!backend.connected()) {
    table_.set(backend.id(), WorkerState::kAborting, Clock::now());
    if (!fork_mode_)
      probe(backend);
  } else {
    now_idle(backend);
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
    signal_worker(backend, SIGKILL);
  }
}

void Crew::worker_misbehaved(Backend &backend, const char *what) {
  sys::log().warning("[pool {}] child {} sent {}: killed", pool_.name, backend.pid, what);
  backend.disconnect();
  if (table_.state(backend.id()) != WorkerState::kStopping)
    table_.set(backend.id(), WorkerState::kAborting, Clock::now());
  signal_worker(backend, SIGKILL);
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
  }
  table_.set(backend.id(), WorkerState::kIdle, Clock::now());
  if (!ready_) {
    ready_ = true;
    owner_.crew_ready();
  }
  owner_.crew_changed();
}

// --- the end of workers ---------------------------------------------------------------------------------------------

void Crew::stop_worker(Backend &backend) {
  backend.planned_end = true;
  table_.set(backend.id(), WorkerState::kStopping, Clock::now());
  if (backend.channel_watch != nullptr)
    backend.channel_watch->set(0);
  backend.channel.reset();
  backend.disconnect();
  if (!fork_mode_)
    signal_worker(backend, SIGTERM); // php-cgi ends in order
  arm_deadline(Clock::now() + kStopPatience);
}

void Crew::signal_worker(const Backend &backend, int number) {
  if (backend.pid <= 0)
    return;
  if (::kill(backend.pid, number) != 0)
    sys::log().warning("[pool {}] cannot send SIG{} to child {}: {}", pool_.name, sigabbrev_np(number), backend.pid,
                       strerror(errno));
}

void Crew::log_end(const Backend &backend, int status) {
  const bool quiet = backend.planned_end && WIFEXITED(status) && WEXITSTATUS(status) == 0;
  const std::string text = fmt::format("[pool {}] child {} {} after {:.6f} seconds from start", pool_.name, backend.pid,
                                       end_text(status), age_of(backend));
  if (quiet)
    sys::log().debug("{}", text);
  else if (WIFSIGNALED(status))
    sys::log().warning("{}", text);
  else
    sys::log().notice("{}", text);
}

void Crew::worker_ended(Backend &backend, int status) {
  backend.drain(); // a whole answer may be there that came before the end
  if (backend.output != nullptr) {
    backend.output->drain();
    backend.errors->drain();
    backend.output->flush();
    backend.errors->flush();
  }
  log_end(backend, status);
  const WorkerId id = backend.id();
  Request *request = backend.request();
  if (!backend.planned_end) {
    scoreboard_.add(Metric::workers_crashed);
    replacing_ = true;
    if (table_.state(id) == WorkerState::kStarting || backend.served == 0)
      manager_.start_failed(Clock::now());
  }
  const bool was_terminated = backend.terminated;
  backend.abandon();
  by_pid_.erase(backend.pid);
  retire(id);
  if (request != nullptr)
    owner_.request_lost(*request, was_terminated ? "timeout" : end_text(status));
  if (!ready_ && !fork_mode_)
    owner_.crew_failed("php-cgi " + end_text(status) + " before it could serve; run " + pool_.php_binary + " -v");
  owner_.crew_changed();
}

void Crew::retire(WorkerId id) {
  retired_.push_back(std::move(backends_[id.index]));
  table_.remove(id);
}

void Crew::sweep() {
  retired_.clear();
  old_template_.reset();
}

void Crew::reap() {
  // A worker that died at once: its HELLO, which tells its pid, is still unread.
  for (std::size_t i = 0; i < backends_.size(); ++i) {
    if (backends_[i] != nullptr && backends_[i]->pid < 0 && backends_[i]->channel.valid())
      channel_readable(backends_[i]->id());
  }
  int status = 0;
  while (true) {
    const pid_t pid = ::waitpid(-1, &status, WNOHANG);
    if (pid < 0 && errno == EINTR)
      continue;
    if (pid <= 0)
      return;
    if (const auto found = by_pid_.find(pid); found != by_pid_.end())
      worker_ended(*backends_[found->second.index], status);
    else if (template_ != nullptr && pid == template_->pid)
      template_failed(end_text(status));
    else if (pid == spawner_.pid)
      spawner_ended(end_text(status));
    else if (template_asked_ || !execs_.empty())
      early_ends_[pid] = status;
    // Others are what scripts have left behind, and former templates: nothing to do but reap them.
  }
}

void Crew::check_deadlines() {
  const TimePoint now = Clock::now();
  for (std::size_t i = 0; i < backends_.size(); ++i) {
    const auto id = table_.at(i);
    if (!id)
      continue;
    Backend &backend = *backends_[i];
    if (table_.state(*id) == WorkerState::kStopping)
      check_stopping(backend, now);
    else if (table_.state(*id) == WorkerState::kStarting)
      check_starting(backend, now);
    else if (backend.request() != nullptr && pool_.request_terminate_timeout > Duration::zero())
      check_running(backend, now);
  }
}

void Crew::check_starting(Backend &backend, TimePoint now) {
  const TimePoint due = table_.since(backend.id()) + kStartPatience;
  if (now < due) {
    arm_deadline(due);
    return;
  }
  if (backend.pid > 0) { // its end is seen by reap()
    sys::log().warning("[pool {}] child {} does not start, killing it", pool_.name, backend.pid);
    signal_worker(backend, SIGKILL);
    arm_deadline(now + kStopPatience);
  } else {
    start_failed(backend, "php-cgi did not report in time");
  }
}

void Crew::check_stopping(Backend &backend, TimePoint now) {
  const TimePoint due = table_.since(backend.id()) + kStopPatience;
  if (now < due) {
    arm_deadline(due);
    return;
  }
  sys::log().warning("[pool {}] child {} does not end, killing it", pool_.name, backend.pid);
  signal_worker(backend, SIGKILL);
  arm_deadline(now + kStopPatience);
}

// In two steps: SIGPROF makes PHP raise its own time-out error and end the request in order; then SIGKILL.
void Crew::check_running(Backend &backend, TimePoint now) {
  const Request &request = *backend.request();
  const TimePoint due = request.started + pool_.request_terminate_timeout;
  if (now < due) {
    arm_deadline(due);
  } else if (!backend.terminated) {
    sys::log().warning("[pool {}] child {}, script '{}' (request: \"{} {}\") execution timed out ({:.6f} sec), "
                       "terminating",
                       pool_.name, backend.pid, request.params.get("SCRIPT_FILENAME"),
                       request.params.get("REQUEST_METHOD"), request.params.get("REQUEST_URI"),
                       std::chrono::duration<double>(now - request.started).count());
    scoreboard_.add(Metric::timeouts);
    backend.terminated = true;
    signal_worker(backend, SIGPROF);
    arm_deadline(now + kTerminatePatience);
  } else if (now >= due + kTerminatePatience) {
    signal_worker(backend, SIGKILL);
  } else {
    arm_deadline(due + kTerminatePatience);
  }
}

void Crew::arm_deadline(TimePoint when) {
  if (when < deadline_timer_.due())
    deadline_timer_.at(when);
}

std::vector<status::WorkerView> Crew::view() const {
  std::vector<status::WorkerView> views;
  const TimePoint now = Clock::now();
  const std::time_t wall = std::time(nullptr);
  for (std::size_t i = 0; i < backends_.size(); ++i) {
    const auto id = table_.at(i);
    if (!id)
      continue;
    const Backend &backend = *backends_[i];
    status::WorkerView view;
    view.pid = backend.pid;
    view.state = state_name(table_.state(*id));
    view.start_since = static_cast<std::uint64_t>(std::chrono::duration_cast<seconds>(now - backend.spawned()).count());
    view.start_time = wall - static_cast<std::time_t>(view.start_since);
    view.requests = backend.served;
    if (const Request *request = backend.request()) {
      view.duration_us =
          static_cast<std::uint64_t>(std::chrono::duration_cast<microseconds>(now - request->started).count());
      view.method = request->params.get("REQUEST_METHOD");
      view.uri = request->params.get("REQUEST_URI");
      view.script = request->params.get("SCRIPT_FILENAME");
      view.user = request->params.get("REMOTE_USER");
      view.content_length = request->body_expected;
    }
    views.push_back(std::move(view));
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
      stop_worker(*backends_[i]);
  }
}

void Crew::kill_all() {
  for (std::size_t i = 0; i < backends_.size(); ++i) {
    if (table_.at(i)) {
      backends_[i]->planned_end = true;
      signal_worker(*backends_[i], SIGKILL);
    }
  }
}

} // namespace tqfpm::dispatcher
