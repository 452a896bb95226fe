#include "web/client.h"

#include <sys/socket.h>

#include <algorithm>

#include "fcgi/writer.h"

namespace tqfpm::web {

using pool::Request;

namespace {

constexpr Duration kLookInterval = seconds(1);

} // namespace

Client::Client(sys::EventLoop &loop, Notes &notes, const ClientSettings &settings, std::uint64_t key, sys::Fd fd,
               std::string peer, bool apart)
    : notes_(notes), settings_(settings), key_(key), fd_(std::move(fd)), peer_(std::move(peer)),
      session_(fcgi::SessionLimits{.advertised = settings.advertised}), apart_(apart),
      watch_(loop, fd_.get(), [this](unsigned events) {
        flags_.readable = flags_.readable || (events & sys::kReadable) != 0;
        note();
      }) {
  flags_.readable = true; // most often the request is there already
  note();
}

Client::~Client() {
  std::erase(notes_.ready, this);
  std::erase(notes_.touched, this);
}

void Client::note() {
  if (!std::exchange(flags_.ready, true))
    notes_.ready.push_back(this);
}

void Client::touch() {
  if (!std::exchange(flags_.touched, true))
    notes_.touched.push_back(this);
}

bool Client::idle() const {
  return state_ == ClientState::kOpen && requests_.empty() && in_.empty() && out_.unsent() == 0 &&
         !session_.in_params() && !session_.in_record();
}

bool Client::settled() const {
  const unsigned wanted =
      (may_read(load(), settings_.limits) ? sys::kReadable : 0U) | (out_.unsent() > 0 ? sys::kWritable : 0U);
  return flags_.ready || state_ == ClientState::kClosed || watch_.events() == wanted;
}

bool Client::expects() const {
  const bool waiting = std::any_of(requests_.begin(), requests_.end(), [](const auto &each) {
    return each->state != pool::RequestState::kRunning && each->state != pool::RequestState::kEnded;
  });
  const bool reads = state_ == ClientState::kOpen || state_ == ClientState::kHalfClosed;
  return reads && (waiting || session_.in_params() || !in_.empty());
}

std::size_t Client::held() const {
  std::size_t bytes = in_.capacity() + out_.capacity() + session_.held();
  for (const auto &each : requests_)
    bytes += each->body.capacity() + 2 * each->params.content().size(); // and their index
  return bytes;
}

bool Client::receiving() const {
  return std::any_of(requests_.begin(), requests_.end(), [](const auto &each) { return !each->body_complete; });
}

Load Client::load() const {
  Load load;
  load.state = state_;
  load.unsent = out_.unsent();
  load.waits_for_id = flags_.waits_for_id;
  load.pressure = notes_.pressure;
  load.in_body = session_.in_record();
  load.held = in_.size() + out_.size() + session_.held();
  for (const auto &each : requests_) {
    const bool fed = each->state == pool::RequestState::kRunning && !each->body_complete;
    load.held += each->body.size() + each->params.content().size();
    load.starves = load.starves || (fed && each->body.empty());
    load.feeds_worker = load.feeds_worker || fed;
    load.largest_body = std::max(load.largest_body, each->body.size());
    load.in_body = load.in_body || !each->body_complete;
  }
  load.in_head = session_.in_params() || (!load.in_body && !in_.empty());
  return load;
}

bool Client::can_parse() const {
  return !in_.empty() && !flags_.needs_more && may_parse(load(), settings_.limits);
}

// --- output ---------------------------------------------------------------------------------------------------------

void Client::send(std::string_view records) {
  touch();
  if (state_ == ClientState::kClosed || state_ == ClientState::kLingering)
    return;
  if (!out_.send(fd_.get(), records))
    lost();
}

void Client::flush() {
  if (out_.unsent() == 0)
    return;
  const OutputBuffer::Outcome outcome = out_.flush(fd_.get());
  flags_.has_taken = flags_.has_taken || outcome == OutputBuffer::Outcome::kTaken;
  if (outcome == OutputBuffer::Outcome::kBroken)
    lost();
}

void Client::forget(const Request &request) {
  touch();
  flags_.unread_body = flags_.unread_body || !request.body_complete;
  flags_.waits_for_id = false; // perhaps it was this one
  session_.answered(request.id);
  std::erase_if(requests_, [&request](const auto &each) { return each.get() == &request; });
}

void Client::end(Request &request) {
  flags_.last_answered = flags_.last_answered || !request.keep;
  forget(request);
  close_if_last();
}

void Client::close_if_last() {
  if (flags_.last_answered && requests_.empty() && state_ != ClientState::kClosed)
    state_ = ClientState::kClosing;
}

void Client::cut(Request &request) {
  if (requests_.size() > 1) { // other requests share the connection: END_REQUEST with a status is all there is
    std::string record;
    fcgi::append_end_request(record, request.id, 1, fcgi::ProtocolStatus::kRequestComplete);
    send(record);
    end(request);
    return;
  }
  forget(request);
  if (state_ != ClientState::kClosed)
    state_ = ClientState::kClosing;
}

// A socket that is closed with unread bytes resets the connection, and the peer may lose the answer.
void Client::all_sent() {
  if (flags_.peer_done || (!flags_.unread_body && in_.empty())) {
    close();
    return;
  }
  state_ = ClientState::kLingering;
  in_.clear();
  (void)::shutdown(fd_.get(), SHUT_WR);
}

void Client::lost() {
  touch();
  close();
  for (const auto &each : requests_)
    each->gone = true;
}

void Client::close() {
  touch();
  state_ = ClientState::kClosed;
  watch_.set(0);
  fd_.reset();
  in_ = InputBuffer();
  out_ = OutputBuffer();
}

// --- the end of a round ---------------------------------------------------------------------------------------------

void Client::settle(TimePoint now) {
  flags_.touched = false;
  steps_ = 0;
  if (state_ == ClientState::kHalfClosed && requests_.empty() && !can_parse())
    state_ = ClientState::kClosing;
  if (state_ == ClientState::kClosing && out_.unsent() == 0)
    all_sent();
  charged_ = held();
  due_ = TimePoint::max();
  if (state_ == ClientState::kClosed)
    return;
  const Load load = this->load();
  const bool reads = may_read(load, settings_.limits);
  watch_.set((reads ? sys::kReadable : 0U) | (out_.unsent() > 0 ? sys::kWritable : 0U));
  if (can_parse() || (reads && flags_.readable))
    note(); // there is more to do, in the next turn
  await(wait_for_peer(load, settings_.limits), now);
}

void Client::await(const Wait &wait, TimePoint now) {
  // The head of a request has one time for all of it, however it trickles in.
  if (wait.what != wait_.what || (wait.what == Late::kBody && flags_.has_sent) ||
      (wait.what == Late::kSend && flags_.has_taken))
    progress_ = now;
  flags_.has_sent = flags_.has_taken = false;
  wait_ = wait;
  if (wait.what != Late::kNothing)
    due_ = progress_ + wait.patience;
  if (unseen_end() && called_back_ == TimePoint::max())
    called_back_ = now + kLookInterval;
  due_ = std::min(due_, called_back_);
}

Late Client::expire(TimePoint now) {
  touch();
  if (now >= called_back_) {
    called_back_ = TimePoint::max();
    if (unseen_end())
      look_for_end();
  }
  if (state_ == ClientState::kClosed || wait_.what == Late::kNothing || now < progress_ + wait_.patience)
    return Late::kNothing;
  if (wait_.what != Late::kBody || !receiving()) {
    lost();
    return wait_.what == Late::kLinger ? Late::kNothing : wait_.what;
  }
  flags_.last_answered = true; // nothing more is expected of it
  for (const auto &each : requests_)
    each->timed_out = each->timed_out || !each->body_complete;
  return wait_.what;
}

} // namespace tqfpm::web
