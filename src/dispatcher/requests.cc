#include "dispatcher/requests.h"

#include <unistd.h>

#include <ctime>
#include <vector>

#include "base/request_id.h"
#include "base/result.h"
#include "fcgi/writer.h"
#include "sys/log.h"

namespace tqfpm::dispatcher {

using pool::Request;
using pool::RequestState;
using status::Metric;

namespace {

constexpr Duration kLogPatience = milliseconds(5);

// Something that differs between processes and starts: request ids must be unique in a log.
std::string fresh_prefix() {
  return fmt::format("{:x}{:x}-", static_cast<unsigned>(::getpid()), static_cast<unsigned long>(std::time(nullptr)));
}

std::uint64_t in_us(Duration time) {
  return static_cast<std::uint64_t>(std::chrono::duration_cast<microseconds>(time).count());
}

} // namespace

Requests::Requests(sys::EventLoop &loop, const Parts &parts, AccessLog &access_log)
    : pool_(parts.config.pools.front()), board_(parts.board), front_(parts.front), workers_(parts.workers),
      access_log_(access_log), queue_(static_cast<std::size_t>(pool_.queue_max_length), pool_.queue_max_wait),
      php_output_(parts.config.global, pool_, parts.php), web_settings_(parts.config, parts.workers),
      script_choice_(pool_, parts.php, parts.folders, parts.workers.spawner()),
      pool_status_(pool_, parts.workers, queue_, parts.board), tag_prefix_(fresh_prefix()),
      locked_values_(spawner::has_locked_values(pool_)), queue_timer_(loop, [] {}) {}

web::Client &Requests::client_of(const Request &request) const {
  web::Client *client = front_.find(request.client);
  TQFPM_ASSERT(client != nullptr); // it stays until its requests have ended
  return *client;
}

// --- what clients send ----------------------------------------------------------------------------------------------

void Requests::look_at(web::Client &client, TimePoint now) {
  for (std::size_t i = 0; i < client.requests().size();) {
    const Request *request = client.requests()[i].get();
    step(*client.requests()[i], client, now);
    if (i < client.requests().size() && client.requests()[i].get() == request)
      ++i; // it has not ended
  }
}

void Requests::step(Request &request, web::Client &client, TimePoint now) {
  const bool fresh = request.state == RequestState::kNew;
  if (fresh)
    receive(request, now);
  if (request.gone || request.aborted) {
    abandon(request, now);
    return;
  }
  if (request.timed_out) {
    late(request, now);
    return;
  }
  switch (request.state) {
  case RequestState::kReceiving:
    if (fresh)
      follow(request, judge(request, now), now);
    else if (ready(request))
      submit(request, now);
    return;
  case RequestState::kRunning:
    workers_.pump(request, client.congested());
    return;
  case RequestState::kNew:
  case RequestState::kQueued:
  case RequestState::kEnded:
    return;
  }
}

void Requests::receive(Request &request, TimePoint now) {
  request.received = now;
  const auto given = request_id(request.params.get("REQUEST_ID"));
  request.tag = given ? std::string(*given) : tag_prefix_ + std::to_string(request.key);
  if (!request.apart)
    board_.add(Metric::received);
  request.state = RequestState::kReceiving;
}

Verdict Requests::judge(Request &request, TimePoint now) {
  if (request.too_many_params)
    return Verdict::local(error_page(AnswerName::kTooManyParams, request.tag));
  Verdict verdict = pool_status_.judge(request, now);
  bool locked = locked_values_;
  if (verdict.kind == Verdict::Kind::kRun)
    verdict = web_settings_.judge(request, locked);
  if (verdict.kind == Verdict::Kind::kRun)
    verdict = script_choice_.judge(request, locked);
  return verdict;
}

void Requests::follow(Request &request, const Verdict &verdict, TimePoint now) {
  request.looking = verdict.kind == Verdict::Kind::kWait;
  if (verdict.kind == Verdict::Kind::kAnswer)
    answer(request, verdict.answer, now);
  else if (ready(request))
    submit(request, now);
}

void Requests::scripts_found(TimePoint now) {
  Verdict verdict;
  while (Request *request = script_choice_.found(verdict))
    follow(*request, verdict, now);
}

// All of its body is there, or as much as is held for a worker.
bool Requests::ready(const Request &request) const {
  return !request.looking &&
         (request.body_complete || request.body.size() >= static_cast<std::size_t>(pool_.request_buffer_size.value) ||
          (front_.pressed() && request.has_length));
}

// --- the queue ------------------------------------------------------------------------------------------------------

void Requests::submit(Request &request, TimePoint now) {
  request.submitted = now;
  if (!request.has_length && request.body_received > 0 && !request.body_complete) {
    answer(request, error_page(AnswerName::kNoLength, request.tag), now);
    return;
  }
  if (queue_.length() == 0) {
    if (const auto idle = workers_.idle_worker(request.variant); idle && start(request, *idle, now))
      return;
  }
  if (!queue_.push(request.key, request.variant, now)) {
    answer(request, error_page(AnswerName::kQueueFull, request.tag), now);
    return;
  }
  request.state = RequestState::kQueued;
  queued_[request.key] = &request;
  board_.add(Metric::queued_requests);
}

void Requests::schedule(TimePoint now) {
  expire(now);
  pool::Match wanted;
  start_waiting(wanted, now);
  workers_.decide(queue_.length(), wanted, draining_, now);
  queue_timer_.at(queue_.next_deadline());
  if (draining_)
    return; // the gauges are the next generation's
  board_.set(Metric::queue_length, queue_.length());
  board_.raise(Metric::max_queue_length, queue_.length());
}

void Requests::start_waiting(pool::Match &wanted, TimePoint now) {
  if (workers_.variants() > 1) {
    wanted = workers_.match(queue_.entries());
    for (const pool::RequestKey key : wanted.assign) {
      if (queue_.remove(key))
        start_queued(key, queued_.at(key)->variant, now);
    }
    return;
  }
  while (queue_.length() > 0 && workers_.idle_worker(0))
    start_queued(*queue_.pop(), 0, now);
}

void Requests::start_queued(pool::RequestKey key, pool::VariantNumber variant, TimePoint now) {
  Request &request = *queued_.at(key);
  queued_.erase(key);
  request.state = RequestState::kReceiving;
  web::Client &client = client_of(request);
  if (!client.reads()) // nothing else would tell that the client has gone
    client.look_for_end();
  if (request.gone) {
    abandon(request, now);
    return;
  }
  const auto idle = workers_.idle_worker(variant);
  if (!idle || !start(request, *idle, now))
    wait_again(request);
}

// It keeps its place, and what it has waited counts: queue.max_wait is the limit of it all.
void Requests::wait_again(Request &request) {
  queue_.put_back(request.key, request.variant, request.submitted);
  request.state = RequestState::kQueued;
  queued_[request.key] = &request;
}

// It was with a worker.
void Requests::come_back(Request &request, TimePoint now) {
  request.submitted = now - (request.started - request.submitted);
  request.started = TimePoint{};
  wait_again(request);
}

void Requests::expire(TimePoint now) {
  while (const auto key = queue_.pop_expired(now)) {
    Request &request = *queued_.at(*key);
    queued_.erase(*key);
    request.state = RequestState::kReceiving;
    answer(request, error_page(AnswerName::kQueueTimeout, request.tag), now);
  }
}

void Requests::variant_failed(pool::VariantNumber variant, TimePoint now) {
  std::vector<Request *> waiting;
  for (const pool::RequestQueue::Entry &entry : queue_.entries()) {
    if (entry.variant == variant)
      waiting.push_back(queued_.at(entry.key));
  }
  for (Request *request : waiting)
    answer(*request, error_page(AnswerName::kSettingsFail, request->tag), now);
}

std::string Requests::head_of(const Request &request, TimePoint now) const {
  std::string more;
  if (!request.has_length && request.body_received > 0)
    fcgi::append_pair(more, "CONTENT_LENGTH", std::to_string(request.body_received));
  if (pool_.request_environment) {
    fcgi::append_pair(more, "TQFPM_REQUEST_ID", request.tag);
    fcgi::append_pair(more, "TQFPM_QUEUE_WAIT_US", std::to_string(in_us(now - request.submitted)));
  }
  std::string head;
  head.reserve(request.params.content().size() + more.size() + 64 + request.body.size());
  fcgi::append_begin_request(head, 1, request.role, true);
  fcgi::append_params(head, 1, request.params.content(), more);
  return head;
}

bool Requests::start(Request &request, pool::WorkerId worker, TimePoint now) {
  const TimePoint before = std::exchange(request.started, now);
  if (!workers_.assign(request, worker, head_of(request, now), now)) {
    request.started = before;
    return false;
  }
  request.state = RequestState::kRunning;
  client_of(request).touch(); // there is room for more of the body
  board_.add(Metric::queue_wait_us, in_us(now - request.submitted));
  return true;
}

// --- what workers say -----------------------------------------------------------------------------------------------

void Requests::on(const workers::Event &event, TimePoint now) {
  using Kind = workers::Event::Kind;
  Request *request = event.request;
  if (request == nullptr)
    return;
  switch (event.kind) {
  case Kind::kAnswer:
    respond(*request, event, now);
    return;
  case Kind::kReturned:
    come_back(*request, now);
    return;
  case Kind::kLost:
    lose(*request, event, now);
    return;
  default: // kTaken: look_at() feeds it, and settle() reads more
    client_of(*request).touch();
    return;
  }
}

void Requests::respond(Request &request, const workers::Event &event, TimePoint now) {
  const fcgi::ResponseScan &scan = event.scan;
  std::string adapted;
  const std::string_view records = php_output_.adapt(request, event.records, scan, adapted);
  if (request.status == 0 && !scan.first_stdout.empty()) {
    request.status = fcgi::response_status(scan.first_stdout);
    if (access_log_.needs().head) // it comes in one piece, as a rule
      request.head = scan.first_stdout.substr(0, scan.first_stdout.find("\r\n\r\n"));
  }
  request.sent += scan.body_bytes;
  if (!request.answering)
    request.first_byte = now;
  if (scan.ended && event.timed_out && request.answering) { // what PHP calls the end is only where it was stopped
    request.state = RequestState::kReceiving;
    request.reason = "time-out";
    end(request, End::kCut, now);
    return;
  }
  request.answering = true;
  if (scan.ended)
    sys::log().sink().catch_up(kLogPatience); // what was logged about it is there when its client has the answer
  client_of(request).send(records);
  if (!scan.ended)
    return;
  request.state = RequestState::kReceiving; // the worker has given it back
  if (request.status == 0)
    request.status = 200;
  end(request, End::kAnswered, now);
}

// Reading changes nothing: doing it twice is harmless as long as the client has seen nothing of the first time.
bool Requests::may_retry(const Request &request, bool timed_out) const {
  const std::string_view method = request.params.get("REQUEST_METHOD");
  return pool_.request_retry && !request.retried && !request.answering && !timed_out && !request.gone &&
         (method == "GET" || method == "HEAD") && request.body_received == 0 && request.body_complete;
}

void Requests::lose(Request &request, const workers::Event &event, TimePoint now) {
  request.state = RequestState::kReceiving; // the worker has given it back
  const bool again = may_retry(request, event.timed_out);
  sys::log().warning("[pool {}] request {} \"{} {}\" (script {}) failed: child {} {}{}", pool_.name, request.tag,
                     request.params.get("REQUEST_METHOD"), request.params.get("REQUEST_URI"),
                     request.params.get("SCRIPT_FILENAME"), request.worker_pid, event.text,
                     again ? "; trying it once more on another worker" : "");
  if (again) {
    request.retried = true;
    board_.add(Metric::retried);
    request.body.clear();
    fcgi::append_stream_end(request.body, fcgi::RecordType::kStdin, 1); // the worker has taken the first one
    come_back(request, now);
  } else if (!request.answering) {
    answer(request, error_page(event.timed_out ? AnswerName::kTimeout : AnswerName::kWorkerDied, request.tag), now);
  } else {
    board_.add(Metric::lost);
    request.reason = "worker died";
    end(request, End::kCut, now);
  }
}

// --- the end --------------------------------------------------------------------------------------------------------

// Its client has gone, or does not want it any more.
void Requests::abandon(Request &request, TimePoint now) {
  board_.add(Metric::abandoned);
  request.status = 499; // as nginx calls a client that did not wait
  request.reason = "client gone";
  end(request, request.gone ? End::kGone : End::kAborted, now);
}

// Its client has not sent the body in time.
void Requests::late(Request &request, TimePoint now) {
  if (!request.answering) {
    answer(request, error_page(AnswerName::kBodyTimeout, request.tag), now);
    return;
  }
  request.reason = "body time-out";
  end(request, End::kCut, now);
}

void Requests::answer(Request &request, const LocalAnswer &page, TimePoint now) {
  if (page.metric != Metric::requests)
    board_.add(page.metric);
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
  sys::log().sink().catch_up(kLogPatience);
  client_of(request).send(records);
  end(request, End::kAnswered, now);
}

// Whoever else knows the request forgets it.
void Requests::detach(Request &request) {
  script_choice_.forget(request);
  if (request.state == RequestState::kQueued) {
    queue_.remove(request.key);
    queued_.erase(request.key);
  } else if (request.state == RequestState::kRunning) {
    workers_.abandon(request);
  }
  workers_.release(request.variant);
}

void Requests::end(Request &request, End how, TimePoint now) {
  TQFPM_ASSERT(request.state != RequestState::kEnded);
  detach(request);
  request.state = RequestState::kEnded;
  if (!request.apart) {
    board_.add(Metric::requests);
    access_log_.write(request, now);
  }
  web::Client &client = client_of(request);
  if (how == End::kCut) {
    client.cut(request);
    return;
  }
  if (how == End::kAborted) {
    std::string record;
    fcgi::append_end_request(record, request.id, 0, fcgi::ProtocolStatus::kRequestComplete);
    client.send(record);
  }
  client.end(request);
}

} // namespace tqfpm::dispatcher
