#include "web/client.h"

#include <poll.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <charconv>

#include "fcgi/writer.h"

namespace tqfpm::web {

using fcgi::Arrival;
using pool::Request;

namespace {

// Shared by all connections: what is read is parsed, and the rest copied, before the next read.
constexpr std::size_t kReadSize = 128U << 10;
char read_buffer[kReadSize];
// Reads in one turn, so that one busy connection does not starve the others.
constexpr int kReadsPerTurn = 8;
// ... and what its records may cost: each looks at all requests of the connection.
constexpr std::size_t kStepsPerTurn = 1U << 18;
constexpr std::size_t kKeptRoom = 4096; // of an idle connection's buffers
constexpr Duration kFirstLook = milliseconds(20);
constexpr Duration kLookInterval = seconds(1);

bool parse_length(std::string_view text, std::uint64_t &value) {
  const auto [end, code] = std::from_chars(text.data(), text.data() + text.size(), value);
  return code == std::errc() && end == text.data() + text.size();
}

void clear(std::string &buffer) {
  if (buffer.capacity() > kKeptRoom)
    buffer = std::string();
  else
    buffer.clear();
}

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
  return state_ == ClientState::kOpen && requests_.empty() && unparsed().empty() && unsent() == 0 &&
         !session_.in_params() && !session_.in_record();
}

bool Client::settled() const {
  const unsigned wanted =
      (may_read(load(), settings_.limits) ? sys::kReadable : 0U) | (unsent() > 0 ? sys::kWritable : 0U);
  return flags_.ready || state_ == ClientState::kClosed || watch_.events() == wanted;
}

bool Client::expects() const {
  const bool waiting = std::any_of(requests_.begin(), requests_.end(), [](const auto &each) {
    return each->state != pool::RequestState::kRunning && each->state != pool::RequestState::kEnded;
  });
  const bool reads = state_ == ClientState::kOpen || state_ == ClientState::kHalfClosed;
  return reads && (waiting || session_.in_params() || !unparsed().empty());
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
  load.unsent = unsent();
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
  load.in_head = session_.in_params() || (!load.in_body && !unparsed().empty());
  return load;
}

bool Client::can_parse() const {
  return !unparsed().empty() && !flags_.needs_more && may_parse(load(), settings_.limits);
}

// --- input ----------------------------------------------------------------------------------------------------------

void Client::work(TimePoint now) {
  flags_.ready = false;
  touch();
  if (state_ == ClientState::kClosed)
    return;
  if (state_ == ClientState::kLingering) {
    drop_input();
    return;
  }
  flush();
  steps_ = 0;
  if (can_parse())
    parse({});
  if (flags_.readable)
    read(now);
}

void Client::read(TimePoint now) {
  for (int i = 0; i < kReadsPerTurn && steps_ < kStepsPerTurn && may_read(load(), settings_.limits); ++i) {
    const ssize_t got = ::recv(fd_.get(), read_buffer, kReadSize, MSG_DONTWAIT);
    if (got < 0 && errno == EINTR)
      continue;
    if (got < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) {
      flags_.readable = false;
      return;
    }
    if (got <= 0) {
      flags_.readable = false;
      if (got == 0)
        end_of_input(now);
      else
        lost();
      return;
    }
    flags_.has_sent = true;
    parse(std::string_view(read_buffer, static_cast<std::size_t>(got)));
    if (static_cast<std::size_t>(got) < kReadSize) {
      flags_.readable = false; // most likely nothing more; the loop tells otherwise
      return;
    }
  }
}

void Client::drop_input() {
  flags_.readable = false; // the loop tells of more
  for (int i = 0; i < kReadsPerTurn; ++i) {
    const ssize_t got = ::recv(fd_.get(), read_buffer, kReadSize, MSG_DONTWAIT);
    if (got < 0 && (errno == EAGAIN || errno == EINTR))
      return;
    if (got <= 0) {
      close();
      return;
    }
  }
}

void Client::parse(std::string_view bytes) {
  if (!in_.empty()) {
    in_.append(bytes);
    bytes = unparsed();
  }
  flags_.needs_more = false;
  while (!flags_.waits_for_id && steps_ < kStepsPerTurn && may_parse(load(), settings_.limits)) {
    steps_ += 1 + requests_.size();
    Arrival arrival = session_.next(bytes);
    if (arrival.kind == Arrival::Kind::kNothing) {
      flags_.needs_more = true;
      break;
    }
    take(arrival);
  }
  keep_input(state_ == ClientState::kClosed ? std::string_view() : bytes);
}

void Client::keep_input(std::string_view rest) {
  const bool inside = !in_.empty();
  if (rest.empty()) {
    clear(in_);
    in_used_ = 0;
  } else if (!inside) {
    in_.assign(rest);
    in_used_ = 0;
  } else {
    in_used_ = in_.size() - rest.size();
    if (in_used_ > in_.size() / 2) { // each byte is moved once for each byte that is used
      in_.erase(0, in_used_);
      in_used_ = 0;
    }
  }
}

void Client::take(Arrival &arrival) {
  Request *request = find(arrival.id);
  switch (arrival.kind) {
  case Arrival::Kind::kNothing:
    return;
  case Arrival::Kind::kWait:
    flags_.waits_for_id = true;
    return;
  case Arrival::Kind::kParams:
    begin(arrival);
    return;
  case Arrival::Kind::kReply:
    send(arrival.content);
    flags_.last_answered = flags_.last_answered || !arrival.keep;
    close_if_last();
    return;
  case Arrival::Kind::kMalformed: // costs its sender the connection, and nothing else happens
    complaint_ = std::move(arrival.content);
    lost();
    return;
  case Arrival::Kind::kBody:
    if (request != nullptr)
      add_body(*request, arrival.data);
    return;
  case Arrival::Kind::kBodyEnd:
    if (request != nullptr)
      end_body(*request);
    return;
  case Arrival::Kind::kAbort:
    if (request != nullptr)
      request->aborted = true;
    return;
  }
}

Request *Client::find(std::uint16_t id) {
  for (const auto &each : requests_) {
    if (each->id == id)
      return each.get();
  }
  return nullptr;
}

void Client::begin(Arrival &arrival) {
  auto owned = std::make_unique<Request>();
  Request &request = *owned;
  request.key = notes_.next_key++;
  request.client = key_;
  request.peer = peer_;
  request.apart = apart_;
  request.id = arrival.id;
  request.role = arrival.role;
  request.keep = arrival.keep;
  request.too_many_params = arrival.too_long;
  requests_.push_back(std::move(owned));
  const auto verdict = request.params.assign(std::move(arrival.content));
  if (verdict == fcgi::Params::Verdict::kMalformed) {
    complaint_ = "malformed parameters, or one of more than 65535 bytes";
    lost();
    return;
  }
  request.too_many_params = request.too_many_params || verdict == fcgi::Params::Verdict::kTooMany;
  if (const auto length = request.params.find("CONTENT_LENGTH"); length && !length->empty())
    request.has_length = parse_length(*length, request.body_expected);
  if (request.role == fcgi::Role::kAuthorizer)
    end_body(request);
}

// Bytes beyond CONTENT_LENGTH would stay in the worker's socket and be taken for the head of its next request.
void Client::add_body(Request &request, std::string_view data) {
  if (request.has_length)
    data = data.substr(0, request.body_expected - request.body_received);
  request.body_received += data.size();
  fcgi::append_stream(request.body, fcgi::RecordType::kStdin, 1, data);
}

void Client::end_body(Request &request) {
  fcgi::append_stream_end(request.body, fcgi::RecordType::kStdin, 1);
  request.body_complete = true;
}

// The peer has closed, or only its sending half. A Unix socket tells which; TCP tells when something is sent to it.
void Client::end_of_input(TimePoint now) {
  pollfd state{fd_.get(), 0, 0};
  (void)::poll(&state, 1, 0);
  if ((state.revents & (POLLHUP | POLLERR)) != 0) {
    lost();
    return;
  }
  state_ = ClientState::kHalfClosed;
  flags_.peer_done = true;
  for (const auto &each : requests_)
    each->gone = each->gone || !each->body_complete;
  called_back_ = now + kFirstLook;
  if (!peer_.empty())
    ask_for_reset();
}

// An end of the error stream, of which there may be several: a peer that has closed answers with a reset.
void Client::ask_for_reset() {
  if (requests_.empty() || unsent() > 0)
    return;
  std::string record;
  fcgi::append_stream_end(record, fcgi::RecordType::kStderr, requests_.front()->id);
  send(record);
}

// Would nobody notice that the peer goes?
bool Client::unseen_end() const {
  return state_ == ClientState::kHalfClosed || (state_ == ClientState::kOpen && !reads() && !idle());
}

void Client::look_for_end() {
  if (state_ == ClientState::kClosed)
    return;
  // A Unix socket tells the end of the peer from the end of its sending half. TCP does not: who is being answered is
  // taken to wait for the rest.
  const bool answered =
      unsent() > 0 || std::any_of(requests_.begin(), requests_.end(), [](const auto &each) { return each->answering; });
  const bool tells = peer_.empty() || state_ == ClientState::kHalfClosed || answered;
  const short end = static_cast<short>(tells ? POLLHUP : POLLRDHUP);
  pollfd state{fd_.get(), end, 0};
  if (::poll(&state, 1, 0) > 0 && (state.revents & (end | POLLHUP | POLLERR)) != 0)
    lost();
}

// --- output ---------------------------------------------------------------------------------------------------------

void Client::send(std::string_view records) {
  touch();
  if (state_ == ClientState::kClosed || state_ == ClientState::kLingering)
    return;
  if (unsent() == 0) {
    ssize_t sent = 0;
    do
      sent = ::send(fd_.get(), records.data(), records.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
    while (sent < 0 && errno == EINTR);
    if (sent < 0 && errno != EAGAIN && errno != EWOULDBLOCK) {
      lost();
      return;
    }
    if (sent > 0)
      records.remove_prefix(static_cast<std::size_t>(sent));
    if (records.empty())
      return;
  }
  out_.append(records);
}

void Client::flush() {
  while (unsent() > 0) {
    const ssize_t sent = ::send(fd_.get(), out_.data() + out_sent_, unsent(), MSG_NOSIGNAL | MSG_DONTWAIT);
    if (sent < 0 && errno == EINTR)
      continue;
    if (sent < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
      break;
    if (sent < 0) {
      lost();
      return;
    }
    flags_.has_taken = true;
    out_sent_ += static_cast<std::size_t>(sent);
  }
  if (unsent() == 0) {
    clear(out_);
    out_sent_ = 0;
  } else if (out_sent_ > out_.size() / 2) { // each byte is moved once for each byte that is sent
    out_.erase(0, out_sent_);
    out_sent_ = 0;
  }
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
  if (flags_.peer_done || (!flags_.unread_body && unparsed().empty())) {
    close();
    return;
  }
  state_ = ClientState::kLingering;
  clear(in_);
  in_used_ = 0;
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
  in_ = std::string();
  out_ = std::string();
  in_used_ = out_sent_ = 0;
}

// --- the end of a round ---------------------------------------------------------------------------------------------

void Client::settle(TimePoint now) {
  flags_.touched = false;
  if (state_ == ClientState::kHalfClosed && requests_.empty() && !can_parse())
    state_ = ClientState::kClosing;
  if (state_ == ClientState::kClosing && unsent() == 0)
    all_sent();
  charged_ = held();
  due_ = TimePoint::max();
  if (state_ == ClientState::kClosed)
    return;
  const Load load = this->load();
  const bool reads = may_read(load, settings_.limits);
  watch_.set((reads ? sys::kReadable : 0U) | (unsent() > 0 ? sys::kWritable : 0U));
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
