// The dispatcher's requests: from a whole request to its answer.
#include <cstring>

#include "dispatcher/access_log.h"
#include "dispatcher/dispatcher.h"
#include "fcgi/writer.h"
#include "sys/log.h"
#include "sys/paths.h"

namespace tqfpm::dispatcher {

using status::Metric;

bool Dispatcher::request_received(Request &request) {
  const std::string_view given = request.params.get("REQUEST_ID");
  request.tag = given.empty() || given.size() > 128 ? tag_prefix_ + std::to_string(request.key) : std::string(given);
  if (!request.client->status_only())
    board().add(Metric::received);
  return answer_by_itself(request);
}

// Ping and status; on pm.status_listen nothing else.
bool Dispatcher::answer_by_itself(Request &request) {
  const std::string_view path = request_path(request);
  const bool apart = request.client->status_only();
  if (!pool_.ping_path.empty() && path == pool_.ping_path) {
    answer(request, ping_page(pool_));
    return true;
  }
  if (!pool_.pm_status_path.empty() && path == pool_.pm_status_path) {
    const std::string_view query = request.params.get("QUERY_STRING");
    answer(request, status_page(state(status::wants_workers(query), !apart), query));
    return true;
  }
  if (apart) {
    answer(request, error_page(404, "only status and ping are here", request.tag));
    return true;
  }
  return choose_variant(request);
}

void Dispatcher::request_ready(Request &request) {
  if (request.looking)
    return; // script_ready() comes back
  const TimePoint now = Clock::now();
  request.submitted = now;
  if (!request.has_length && request.body_received > 0 && !request.body_complete) {
    answer(request, error_page(411, "no length", request.tag));
    return;
  }
  if (queue_.length() == 0) {
    if (const auto idle = crew_.idle_worker(request.variant); idle && start(request, *idle))
      return;
  }
  if (!queue_.push(request.key, request.variant, now)) {
    board().add(Metric::queue_full);
    answer(request, error_page(503, "queue full", request.tag));
    return;
  }
  request.state = RequestState::kQueued;
  by_key_[request.key] = &request;
  board().add(Metric::queued_requests);
  queue_timer_.at(queue_.next_deadline());
  schedule();
}

void Dispatcher::request_body(Request &request) {
  crew_.pump(request.worker);
}

void Dispatcher::client_has_room(Request &request) {
  if (request.state == RequestState::kRunning)
    crew_.pump(request.worker);
}

void Dispatcher::request_abandoned(Request &request) {
  if (stopping_)
    return;
  scripts_.forget(request);
  if (request.state == RequestState::kQueued) {
    queue_.remove(request.key);
    forget_key(request);
  } else if (request.state == RequestState::kRunning) {
    crew_.abandon(request);
  } else if (request.state == RequestState::kAnswered) {
    return;
  }
  board().add(Metric::abandoned);
  request.status = 499; // as nginx calls a client that did not wait
  request.reason = "client gone";
  done(request);
}

// Gives waiting requests to idle workers, then lets the manager decide. Called by what it calls: one round at a time.
void Dispatcher::schedule() {
  if (scheduling_ || stopping_)
    return;
  scheduling_ = true;
  pool::Match wanted;
  if (crew_.variants() > 1) {
    wanted = crew_.match(queue_.entries());
    for (const pool::RequestKey key : wanted.assign) {
      if (queue_.remove(key))
        start_queued(key, by_key_.at(key)->variant);
    }
  } else {
    while (queue_.length() > 0 && crew_.idle_worker(0))
      start_queued(*queue_.pop(), 0);
  }
  crew_.decide(queue_.length(), wanted, draining_);
  if (!draining_) {
    board().set(Metric::queue_length, queue_.length());
    board().raise(Metric::max_queue_length, queue_.length());
  }
  scheduling_ = false;
}

void Dispatcher::start_queued(pool::RequestKey key, pool::VariantNumber variant) {
  Request &request = *by_key_.at(key);
  by_key_.erase(key);
  const auto idle = crew_.idle_worker(variant);
  // With its body held back the connection is not read: nothing else would tell that the client has gone.
  if (!request.body_complete && request.client->gone())
    request.client->close();
  else if (!idle || !start(request, *idle))
    request_ready(request);
}

void Dispatcher::expire() {
  const TimePoint now = Clock::now();
  while (const auto key = queue_.pop_expired(now)) {
    Request &request = *by_key_.at(*key);
    by_key_.erase(*key);
    board().add(Metric::queue_timeouts);
    answer(request, error_page(503, "queue time-out", request.tag));
  }
  queue_timer_.at(queue_.next_deadline());
}

std::string Dispatcher::head_of(Request &request, TimePoint now) const {
  std::string more;
  if (!request.has_length && request.body_received > 0)
    fcgi::append_pair(more, "CONTENT_LENGTH", std::to_string(request.body_received));
  fcgi::append_pair(more, "TQFPM_REQUEST_ID", request.tag);
  const auto wait = std::chrono::duration_cast<microseconds>(now - request.submitted).count();
  fcgi::append_pair(more, "TQFPM_QUEUE_WAIT_US", std::to_string(wait));
  std::string head;
  head.reserve(request.params.content().size() + more.size() + 64 + request.body.size());
  fcgi::append_begin_request(head, 1, request.role, true);
  fcgi::append_params(head, 1, request.params.content(), more);
  return head;
}

bool Dispatcher::start(Request &request, pool::WorkerId id) {
  const TimePoint now = Clock::now();
  request.state = RequestState::kRunning;
  request.started = now;
  if (!crew_.assign(request, id, head_of(request, now))) {
    request.state = RequestState::kReceiving;
    return false;
  }
  board().add(Metric::queue_wait_us,
              static_cast<std::uint64_t>(std::chrono::duration_cast<microseconds>(now - request.submitted).count()));
  return true;
}

void Dispatcher::request_response(Request &request, std::string_view records, const fcgi::ResponseScan &scan) {
  std::string adapted;
  records = php_output_.adapt(request, records, scan, adapted);
  if (request.status == 0 && !scan.first_stdout.empty()) {
    request.status = fcgi::response_status(scan.first_stdout);
    if (access_format_.needs().head) // it comes in one piece, as a rule
      request.head = scan.first_stdout.substr(0, scan.first_stdout.find("\r\n\r\n"));
  }
  request.sent += scan.body_bytes;
  if (!request.answering)
    request.first_byte = Clock::now();
  request.answering = true;
  request.client->send(records);
  if (!scan.ended)
    return;
  if (request.status == 0)
    request.status = 200;
  done(request);
  request.client->finish(request, false);
}

void Dispatcher::request_returned(Request &request) {
  request.state = RequestState::kReceiving;
  request_ready(request);
}

// Reading changes nothing: doing it twice is harmless as long as the client has seen nothing of the first time.
bool Dispatcher::may_retry(const Request &request, const std::string &how) const {
  const std::string_view method = request.params.get("REQUEST_METHOD");
  return pool_.request_retry && !request.retried && !request.answering && how != kTimedOut &&
         (method == "GET" || method == "HEAD") && request.body_received == 0 && request.body_complete;
}

void Dispatcher::retry(Request &request) {
  request.retried = true;
  board().add(Metric::retried);
  request.body.clear();
  fcgi::append_stream_end(request.body, fcgi::RecordType::kStdin, 1); // the worker has taken the first one
  request.state = RequestState::kReceiving;
  request_ready(request);
}

void Dispatcher::request_lost(Request &request, const std::string &how) {
  const bool again = may_retry(request, how);
  sys::log().warning("[pool {}] request {} \"{} {}\" (script {}) failed: child {} {}{}", pool_.name, request.tag,
                     request.params.get("REQUEST_METHOD"), request.params.get("REQUEST_URI"),
                     request.params.get("SCRIPT_FILENAME"), request.worker_pid, how,
                     again ? "; trying it once more on another worker" : "");
  if (again) {
    retry(request);
    return;
  }
  board().add(Metric::lost);
  if (!request.answering) {
    const bool late = how == kTimedOut;
    answer(request, late ? error_page(504, "time-out", request.tag) : error_page(502, "worker died", request.tag));
    return;
  }
  request.reason = "worker died";
  done(request);
  request.client->cut(request);
}

void Dispatcher::answer(Request &request, const LocalAnswer &page) {
  request.status = page.status;
  request.reason = page.reason;
  request.head = page.head;
  std::string content = page.head + "\r\n";
  if (request.params.get("REQUEST_METHOD") != "HEAD")
    content += page.body;
  request.sent = content.size();
  std::string records;
  fcgi::append_stream(records, fcgi::RecordType::kStderr, request.id, page.words);
  fcgi::append_stream(records, fcgi::RecordType::kStdout, request.id, content);
  fcgi::append_end_request(records, request.id, 0, fcgi::ProtocolStatus::kRequestComplete);
  done(request);
  Client &client = *request.client;
  client.send(records);
  client.finish(request, false);
}

// The request is over, whatever it was: count it, write its access log line.
void Dispatcher::done(Request &request) {
  request.state = RequestState::kAnswered;
  if (request.client->status_only())
    return;
  board().add(Metric::requests);
  crew_.release(request.variant);
  if (access_log_.valid())
    log_access(access_log_, access_format_, pool_, request);
}

// In php-fpm a worker answers, which then is an active process and was an idle one, or was started for it.
status::PoolState Dispatcher::state(bool with_workers, bool counts_itself) {
  status::PoolState state;
  const pool::WorkerTable &table = crew_.table();
  state.pool = pool_.name;
  state.manager = config::name_of(pool_.pm);
  state.start_time = start_time_;
  state.start_since = static_cast<std::uint64_t>(std::chrono::duration_cast<seconds>(Clock::now() - started_).count());
  state.accepted = board().get(Metric::received);
  state.queue = queue_.length();
  state.max_queue = queue_.longest();
  state.queue_size = queue_.max_length();
  state.idle = table.count(pool::WorkerState::kIdle);
  state.active = table.count(pool::WorkerState::kBusy) + table.count(pool::WorkerState::kAborting);
  const bool room = state.idle + state.active < static_cast<std::uint64_t>(pool_.pm_max_children);
  if (counts_itself && state.idle > 0) {
    --state.idle;
    ++state.active;
  } else if (counts_itself && room) {
    ++state.active;
  }
  state.total = state.idle + state.active; // ones that start or end are neither
  state.max_active = std::max(board().get(Metric::max_busy_workers), state.active);
  state.max_children_reached = board().get(Metric::max_children_reached);
  state.slow_requests = board().get(Metric::slow_requests);
  state.version = sys::kVersion;
  for (std::size_t i = 0; i < state.metrics.size(); ++i)
    state.metrics[i] = board().get(static_cast<Metric>(i));
  if (with_workers)
    state.workers = crew_.view();
  return state;
}

} // namespace tqfpm::dispatcher
