#include "workers/running.h"

#include <cerrno>
#include <cstring>
#include <utility>

#include "fcgi/writer.h"
#include "sys/log.h"
#include "sys/proc_info.h"
#include "workers/exec_launcher.h"

namespace tqfpm::workers {

using pool::WorkerState;
using status::Metric;
using What = Connection::Received::What;

namespace {
constexpr Duration kWeighInterval = milliseconds(200);
constexpr Duration kWeighPatience = seconds(5);
constexpr Duration kLater = milliseconds(200);
constexpr unsigned kLastReads = 16; // of a worker that has ended: others may hold its connection, and write
} // namespace

std::string work_text(const pool::Request &request) {
  return fmt::format("script '{}' (request: \"{} {}\")", request.params.get("SCRIPT_FILENAME"),
                     request.params.get("REQUEST_METHOD"), request.params.get("REQUEST_URI"));
}

Running::Running(Context &context, WorkerLog &log, Ending &ending, Starting &starting)
    : context_(context), log_(log), ending_(ending), starting_(starting),
      later_timer_(context.loop, [this] { later_due_ = true; }) {}

Worker *Running::worker_of(const pool::Request &request) const {
  Worker *worker = context_.roster.find(request.worker);
  return worker != nullptr && worker->task.request == &request ? worker : nullptr;
}

void Running::set_unless_ending(Worker &worker, WorkerState state, TimePoint now) {
  if (context_.roster.state(worker) != WorkerState::kStopping)
    context_.roster.set(worker, state, now);
}

// --- to the worker --------------------------------------------------------------------------------------------------

bool Running::assign(pool::Request &request, pool::WorkerId id, std::string head, TimePoint now) {
  Worker &worker = *context_.roster.find(id);
  TQFPM_ASSERT(context_.roster.state(worker) == WorkerState::kIdle);
  if (!worker.connection.connected()) {
    const Launcher::Tried tried =
        context_.launcher->asks() ? Launcher::Tried::kLater : context_.launcher->connect(worker);
    if (tried == Launcher::Tried::kGone)
      ending_.kill(worker, Metric::ended_killed, now);
    else if (tried == Launcher::Tried::kLater)
      context_.roster.set(worker, WorkerState::kCutOff, now);
    if (tried != Launcher::Tried::kDone)
      return false;
  }
  if (request.body_is_short())
    worker.connection.end_early();
  const Connection::Sent sent =
      worker.connection.begin(std::move(head), request.body, request.body_complete, request.id);
  if (sent == Connection::Sent::kReturned) { // its end, or its next accept(), will tell
    context_.roster.set(worker, WorkerState::kCutOff, now);
    return false;
  }
  context_.variants.start_lines().say();
  context_.variants.use(context_.roster.variant(worker));
  request.worker = id;
  request.worker_pid = worker.pid;
  worker.task = WorkerTask{};
  worker.task.request = &request;
  worker.task.since = now;
  measure_start(worker, context_.measures);
  context_.roster.set(worker, WorkerState::kBusy, now);
  context_.roster.look_at(context_.slow_log.due(request.started));
  return true;
}

void Running::pump(pool::Request &request, bool hold, TimePoint now) {
  Worker *worker = worker_of(request);
  if (worker == nullptr || worker->dead())
    return;
  worker->connection.hold(hold);
  if (request.body_is_short())
    worker->connection.end_early();
  send_more(*worker, now);
}

void Running::send_more(Worker &worker, TimePoint now) {
  static std::string nothing; // a script that was let go gets no more than it has
  pool::Request *request = worker.task.request;
  if (worker.connection.pump(request != nullptr ? request->body : nothing,
                             request != nullptr && request->body_complete) != Connection::Sent::kReturned)
    return;
  set_unless_ending(worker, WorkerState::kCutOff, now);
  if (request == nullptr)
    return;
  worker.task = WorkerTask{};
  Event event;
  event.kind = Event::Kind::kReturned;
  event.request = request;
  event.worker = worker.id;
  context_.events.push(std::move(event));
}

// It takes more: whoever reads the rest of the body is told that there is room.
void Running::feed(Worker &worker, TimePoint now) {
  const std::size_t had = worker.task.request != nullptr ? worker.task.request->body.size() : 0;
  send_more(worker, now);
  pool::Request *request = worker.task.request;
  if (request == nullptr || request->body_complete || request->body.size() >= had)
    return;
  Event event;
  event.kind = Event::Kind::kTaken;
  event.request = request;
  event.worker = worker.id;
  context_.events.push(std::move(event));
}

void Running::abandon(pool::Request &request, TimePoint now) {
  context_.events.forget(request);
  Worker *worker = worker_of(request);
  if (worker == nullptr)
    return;
  worker->task.words = work_text(request);
  worker->task.request = nullptr;
  worker->connection.close();
  const WorkerState state = context_.roster.state(*worker);
  if (state != WorkerState::kBusy)
    return; // it is ending, or its connection has gone
  context_.roster.set(*worker, WorkerState::kAbandoned, now);
  if (!context_.launcher->asks())
    probe(*worker, now);
}

void Running::probe(Worker &worker, TimePoint now) {
  switch (context_.launcher->connect(worker)) {
  case Launcher::Tried::kLater:
    try_later(worker, now);
    return;
  case Launcher::Tried::kGone:
    ending_.kill(worker, Metric::ended_killed, now);
    return;
  case Launcher::Tried::kDone:
    break;
  }
  if (context_.roster.state(worker) != WorkerState::kStarting)
    context_.roster.set(worker, WorkerState::kProbed, now);
  if (worker.connection.probe(probe_record()) != Connection::Sent::kOk)
    ending_.kill(worker, Metric::ended_killed, now);
}

// --- what is noted --------------------------------------------------------------------------------------------------

bool Running::step(TimePoint now) {
  if (std::exchange(later_due_, false)) {
    for (const pool::WorkerId id : std::exchange(later_, {})) {
      Worker *worker = context_.roster.find(id);
      if (worker == nullptr || context_.roster.state(*worker) == WorkerState::kStopping)
        continue;
      if (context_.launcher->asks())
        context_.roster.note(id);
      else if (!worker->connection.connected())
        probe(*worker, now);
    }
  }
  Worker *worker = context_.roster.next_noted();
  if (worker == nullptr)
    return false;
  serve(*worker, now);
  return true;
}

void Running::serve(Worker &worker, TimePoint now) {
  log_.drain(worker, now);
  if (worker.dead()) {
    const bool more = worker.life.reads++ < kLastReads && receive(worker, true, now) && worker.connection.connected();
    if (more)
      context_.roster.note(worker.id);
    else
      ending_.conclude(worker, now);
    return;
  }
  const unsigned noted = worker.connection.take_noted();
  if (worker.channel.wants_connection) {
    wants_connection(worker, now);
    return;
  }
  if ((noted & sys::kWritable) != 0)
    feed(worker, now);
  if ((noted & sys::kReadable) != 0 || worker.connection.more())
    (void)receive(worker, false, now);
}

bool Running::receive(Worker &worker, bool all, TimePoint now) {
  Connection::Received received = worker.connection.read(all);
  const bool any = received.what != What::kNothing;
  act(worker, received, now);
  if (received.fault != nullptr && !worker.dead() && context_.roster.state(worker) != WorkerState::kStarting)
    ending_.misbehaved(worker, received.fault, now);
  return any;
}

void Running::act(Worker &worker, Connection::Received &received, TimePoint now) {
  if (!received.muttered.empty())
    log_.muttered(worker, received.muttered, now);
  switch (received.what) {
  case What::kNothing:
  case What::kMuttered:
    return;
  case What::kAnswer:
    answer(worker, received.records, received.scan);
    return;
  case What::kEnded:
    ended(worker, received, now);
    return;
  case What::kFinished:
    finished_early(worker, received, now);
    return;
  case What::kCameBack:
    came_back(worker, now);
    return;
  case What::kProbed: // php-cgi is at its accept() again
    become_idle(worker, now);
    return;
  case What::kClosed:
    closed(worker, now);
    return;
  }
}

void Running::answer(Worker &worker, std::string_view records, const fcgi::ResponseScan &scan, bool timed_out) {
  Event event;
  event.kind = Event::Kind::kAnswer;
  event.request = worker.task.request;
  event.worker = worker.id;
  event.records = records;
  event.scan = scan;
  event.timed_out = timed_out;
  context_.events.push(std::move(event));
}

void Running::ended(Worker &worker, Connection::Received &received, TimePoint now) {
  pool::Request &request = *worker.task.request;
  ++worker.served;
  measure_end(worker, request, context_.measures, now);
  log_.finish(worker, now, false); // its lines belong to the request
  answer(worker, received.records, received.scan, worker.task.timed_out);
  context_.scoreboard.add(Metric::php_requests);
  worker.task = WorkerTask{};
  if (received.fault == nullptr)
    after_request(worker, now);
}

// The client has its answer; the worker has work and is not free.
void Running::finished_early(Worker &worker, Connection::Received &received, TimePoint now) {
  pool::Request &request = *worker.task.request;
  worker.task.words = work_text(request);
  if (!context_.pool.request_terminate_timeout_track_finished)
    worker.task.since = TimePoint{};
  last_records_.assign(received.records); // with their end in one piece: one packet, one wake-up of the web server
  fcgi::append_end_request(last_records_, request.id, 0, fcgi::ProtocolStatus::kRequestComplete);
  fcgi::ResponseScan scan = received.scan;
  if (!scan.first_stdout.empty())
    scan.first_stdout = std::string_view(last_records_)
                            .substr(static_cast<std::size_t>(scan.first_stdout.data() - received.records.data()),
                                    scan.first_stdout.size());
  scan.consumed = last_records_.size();
  scan.ended = true;
  scan.finished = false;
  answer(worker, last_records_, scan);
  worker.connection.let_go(request.body, request.body_complete);
  worker.task.request = nullptr;
  set_unless_ending(worker, WorkerState::kFinishing, now);
  context_.scoreboard.add(Metric::finished_early);
  if (worker.connection.more())
    context_.roster.note(worker.id);
}

void Running::came_back(Worker &worker, TimePoint now) {
  ++worker.served;
  context_.scoreboard.add(Metric::php_requests);
  worker.task = WorkerTask{};
  after_request(worker, now);
}

void Running::closed(Worker &worker, TimePoint now) {
  if (worker.dead())
    return;
  switch (context_.roster.state(worker)) {
  case WorkerState::kStarting: // php.spawn = exec: it went before it could answer
  case WorkerState::kProbed:
    ending_.kill(worker, Metric::ended_killed, now);
    return;
  case WorkerState::kIdle:
  case WorkerState::kBusy:
  case WorkerState::kFinishing: // its end, or its next accept(), says what has happened
    context_.roster.set(worker, WorkerState::kCutOff, now);
    return;
  default:
    return;
  }
}

void Running::lose(Worker &worker) {
  pool::Request *request = std::exchange(worker.task.request, nullptr);
  if (request == nullptr)
    return;
  worker.task.words = work_text(*request);
  worker.connection.close();
  Event event;
  event.kind = Event::Kind::kLost;
  event.request = request;
  event.worker = worker.id;
  event.timed_out = worker.task.timed_out;
  event.text = event.timed_out ? "timeout" : kNoAnswer;
  context_.events.push(std::move(event));
}

// --- back again -----------------------------------------------------------------------------------------------------

void Running::told(const LaunchTold &told, TimePoint now) {
  Worker *worker = context_.roster.find(told.worker);
  if (worker == nullptr || worker->dead())
    return;
  const bool starting = context_.roster.state(*worker) == WorkerState::kStarting;
  switch (told.what) {
  case LaunchTold::What::kStarted:
    worker->pid = told.pid;
    if (!context_.launcher->asks())
      probe(*worker, now);
    return;
  case LaunchTold::What::kEnded:
    worker->pid = told.pid;
    ending_.ended(*worker, told.status, now);
    return;
  case LaunchTold::What::kFailed:
    if (starting)
      starting_.failed(*worker, told.text, now);
    return;
  case LaunchTold::What::kMisbehaved:
    if (starting && worker->pid < 0)
      starting_.failed(*worker, "it has sent " + told.text, now);
    else
      ending_.misbehaved(*worker, told.text, now);
    return;
  case LaunchTold::What::kWantsStatus: {
    Event event;
    event.kind = Event::Kind::kWantsStatus;
    event.worker = worker->id;
    context_.events.push(std::move(event));
    return;
  }
  case LaunchTold::What::kAccepting:
    if (worker->channel.wants_connection)
      ending_.misbehaved(*worker, "a wish for a connection twice", now);
    else
      worker->channel.wants_connection = true;
    context_.roster.note(worker->id);
    return;
  }
}

// What it has answered on the connection before comes first; that one has to be closed by now.
void Running::wants_connection(Worker &worker, TimePoint now) {
  if (context_.roster.state(worker) == WorkerState::kStopping)
    return;
  if (worker.connection.connected()) {
    const bool more = worker.life.reads++ < kLastReads && receive(worker, true, now);
    if (more || !worker.connection.connected())
      context_.roster.note(worker.id);
    else
      ending_.misbehaved(worker, "a wish for a connection while it has one", now);
    return;
  }
  lose(worker); // it came back without having answered
  switch (context_.launcher->connect(worker)) {
  case Launcher::Tried::kDone:
    worker.channel.wants_connection = false;
    worker.life.reads = 0;
    shortage_said_ = false;
    become_idle(worker, now);
    return;
  case Launcher::Tried::kLater:
    try_later(worker, now);
    return;
  case Launcher::Tried::kGone:
    sys::log().warning("[pool {}] no connection for child {}: {}; ending it", context_.pool.name, worker.pid,
                       strerror(errno));
    ending_.kill(worker, Metric::ended_killed, now);
    return;
  }
}

// It has done nothing wrong: its time begins anew.
void Running::try_later(Worker &worker, TimePoint now) {
  if (!std::exchange(shortage_said_, true))
    sys::log().warning("[pool {}] no connection for child {} at the moment: {}; trying again", context_.pool.name,
                       worker.pid, strerror(errno));
  const WorkerState state = context_.roster.state(worker);
  context_.roster.set(worker, state == WorkerState::kStarting ? state : WorkerState::kReturning, now);
  worker.task.terminated = TimePoint{};
  later_.push_back(worker.id);
  later_timer_.no_later_than(now + kLater);
}

void Running::settle(TimePoint now) {
  if (!later_.empty())
    later_timer_.no_later_than(now + kLater);
}

void Running::after_request(Worker &worker, TimePoint now) {
  if (context_.roster.state(worker) == WorkerState::kStopping)
    return;
  if (recycle(worker, now)) {
    context_.changed();
    return;
  }
  // What the script left running and has ended is waited for by the worker when it takes a new connection.
  if (context_.launcher->asks() && context_.pool.process_kill_descendants &&
      !context_.children.system().children_of(worker.pid).empty())
    worker.connection.close();
  if (worker.connection.connected() && !worker.channel.wants_connection) {
    become_idle(worker, now);
    return;
  }
  context_.roster.set(worker, WorkerState::kReturning, now);
  if (!context_.launcher->asks())
    probe(worker, now);
}

void Running::become_idle(Worker &worker, TimePoint now) {
  const WorkerState before = context_.roster.state(worker);
  if (before == WorkerState::kStopping)
    return;
  if (before == WorkerState::kStarting)
    starting_.came_up(worker);
  worker.task = WorkerTask{};
  context_.roster.set(worker, WorkerState::kIdle, now);
  if (context_.outdated(worker))
    ending_.stop(worker, Metric::ended_renewed, now);
  context_.be_ready(now);
  context_.changed();
}

bool Running::recycle(Worker &worker, TimePoint now) {
  const bool worn = starting_.worn(worker);
  if (!worn && !worker.overweight) {
    weigh(worker, now);
    return false;
  }
  ending_.stop(worker, worn ? Metric::ended_max_requests : Metric::ended_max_memory, now);
  return true;
}

// What a worker shares with others counts in parts: only the spawner, which is of its user, can read that. It is asked
// when all pages together are too many, and not for each of many short requests.
void Running::weigh(Worker &worker, TimePoint now) {
  if (context_.pool.pm_max_memory.value == 0 || now - worker.weighed < kWeighInterval)
    return;
  const auto use = sys::memory_use(worker.pid);
  if (!use || use->resident <= context_.pool.pm_max_memory.value)
    return;
  worker.weighed = now;
  const ipc::SpawnerRequest request{ipc::SpawnKind::kWeigh, 0, worker.pid, 0, 0};
  context_.spawner.ask(
      request, {}, [this, id = worker.id](const SpawnerAnswer &answer) { weighed(id, answer); }, kWeighPatience);
}

// Without an answer it is asked after another request.
void Running::weighed(pool::WorkerId id, const SpawnerAnswer &answer) {
  Worker *worker = context_.roster.find(id);
  if (!answer.ok() || worker == nullptr || worker->pid != answer.reply.pid || worker->overweight ||
      std::uint64_t{answer.reply.memory} * 1024 <= context_.pool.pm_max_memory.value)
    return;
  worker->overweight = true;
  sys::log().notice("[pool {}] child {} has {} MiB of memory (pm.max_memory): it is replaced", context_.pool.name,
                    worker->pid, answer.reply.memory / 1024);
  if (context_.roster.state(*worker) == WorkerState::kIdle) {
    ending_.stop(*worker, Metric::ended_max_memory, context_.loop.now());
    context_.changed();
  }
}

} // namespace tqfpm::workers
