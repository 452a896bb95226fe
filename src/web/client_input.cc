#include "web/client.h"

#include <poll.h>
#include <sys/socket.h>

#include <cerrno>
#include <charconv>

#include "fcgi/writer.h"

// What a client reads, parses and finds out about its peer.
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
constexpr Duration kFirstLook = milliseconds(20);

bool parse_length(std::string_view text, std::uint64_t &value) {
  const auto [end, code] = std::from_chars(text.data(), text.data() + text.size(), value);
  return code == std::errc() && end == text.data() + text.size();
}

} // namespace

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
  bytes = in_.with(bytes);
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
  in_.keep(state_ == ClientState::kClosed ? std::string_view() : bytes);
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
  if (requests_.empty() || out_.unsent() > 0)
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
  const bool answered = out_.unsent() > 0 || std::any_of(requests_.begin(), requests_.end(),
                                                         [](const auto &each) { return each->answering; });
  const bool tells = peer_.empty() || state_ == ClientState::kHalfClosed || answered;
  const short end = static_cast<short>(tells ? POLLHUP : POLLRDHUP);
  pollfd state{fd_.get(), end, 0};
  if (::poll(&state, 1, 0) > 0 && (state.revents & (end | POLLHUP | POLLERR)) != 0)
    lost();
}

} // namespace tqfpm::web
