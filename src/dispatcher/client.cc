#include "dispatcher/client.h"

#include <poll.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstring>

#include "fcgi/writer.h"
#include "sys/log.h"

namespace tqfpm::dispatcher {

namespace {
// Shared by all connections: what is read is used before the next read.
constexpr std::size_t kReadSize = 128U << 10;
char read_buffer[kReadSize];
// Reads per call, so that one busy connection does not starve the others.
constexpr int kReadsPerTurn = 8;

bool parse_length(std::string_view text, std::uint64_t &value) {
  const auto [end, code] = std::from_chars(text.data(), text.data() + text.size(), value);
  return code == std::errc() && end == text.data() + text.size();
}
} // namespace

Client::Client(sys::EventLoop &loop, ClientOwner &owner, const ClientSettings &settings, std::uint64_t key, sys::Fd fd,
               std::string peer)
    : owner_(owner), settings_(settings), key_(key), fd_(std::move(fd)), peer_(std::move(peer)),
      session_(*this, fcgi::SessionLimits{1U << 20, 256, settings.advertised}),
      watch_(loop, fd_.get(), [this](unsigned events) { on_events(events); }) {}

Client::~Client() {
  abandon_all();
}

bool Client::idle() const {
  return open() && requests_.empty() && in_.empty() && out_.empty() && !half_closed_ && !session_.receiving();
}

void Client::on_events(unsigned events) {
  if ((events & sys::kWritable) != 0)
    flush();
  if ((events & sys::kReadable) != 0 && open())
    read();
}

bool Client::body_is_held() const {
  return std::any_of(requests_.begin(), requests_.end(),
                     [this](const auto &each) { return each->body.size() >= settings_.request_buffer; });
}

void Client::update_watch() {
  if (!open())
    return;
  const bool want_read = lingering_ || (!half_closed_ && !close_when_sent_ && !body_is_held());
  watch_.set((want_read ? sys::kReadable : 0U) | (out_.empty() ? 0U : sys::kWritable));
}

void Client::read() {
  if (lingering_) {
    discard();
    return;
  }
  for (int i = 0; i < kReadsPerTurn && open() && !body_is_held() && !close_when_sent_; ++i) {
    const ssize_t got = ::recv(fd_.get(), read_buffer, kReadSize, MSG_DONTWAIT);
    if (got < 0 && errno == EINTR)
      continue;
    if (got < 0 && errno == EAGAIN)
      break;
    if (got <= 0) {
      at_end_of_file();
      break;
    }
    const auto length = static_cast<std::size_t>(got);
    if (!consume(std::string_view(read_buffer, length)))
      return;
    if (length < kReadSize)
      break; // most likely nothing more; the loop tells otherwise
  }
  update_watch();
}

bool Client::consume(std::string_view bytes) {
  if (!in_.empty()) {
    in_.append(bytes);
    bytes = in_;
  }
  const auto used = session_.consume(bytes);
  if (!used.ok()) {
    refuse(used.error().message);
    return false;
  }
  if (used.value() == bytes.size())
    in_.clear();
  else if (bytes.data() == in_.data())
    in_.erase(0, used.value());
  else
    in_.assign(bytes.substr(used.value()));
  return open();
}

// What is not FastCGI costs its sender the connection, and nothing else happens.
void Client::refuse(const std::string &why) {
  if (!open())
    return;
  owner_.protocol_error();
  sys::log().warning("[pool {}] closed the connection of {}: {}", settings_.pool,
                     peer_.empty() ? "a local web server" : peer_, why);
  close();
}

// The peer closed, or only its sending half: a Unix socket tells which.
void Client::at_end_of_file() {
  pollfd state{fd_.get(), 0, 0};
  (void)::poll(&state, 1, 0);
  const bool only_half = (state.revents & (POLLHUP | POLLERR)) == 0 && peer_.empty();
  if (only_half && !requests_.empty())
    half_closed_ = true;
  else
    close();
}

bool Client::gone() const {
  // A Unix socket tells the end of the peer from the end of its sending half.
  const short end = peer_.empty() ? POLLHUP : POLLRDHUP;
  pollfd state{fd_.get(), end, 0};
  return !open() || (::poll(&state, 1, 0) > 0 && (state.revents & (end | POLLHUP | POLLERR)) != 0);
}

Request *Client::find(std::uint16_t id) {
  for (const auto &each : requests_) {
    if (each->id == id && each->state != RequestState::kAnswered)
      return each.get();
  }
  return nullptr;
}

void Client::on_params(std::uint16_t id, fcgi::Role role, bool keep, std::string content) {
  if (!open())
    return;
  if (find(id) != nullptr) {
    refuse("request id " + std::to_string(id) + " is in use");
    return;
  }
  auto owned = std::make_unique<Request>();
  Request &request = *owned;
  request.key = owner_.next_key();
  request.client = this;
  request.id = id;
  request.role = role;
  request.keep = keep;
  request.received = Clock::now();
  requests_.push_back(std::move(owned));
  if (request.params.assign(std::move(content)) != fcgi::Params::Verdict::kGood) {
    refuse("malformed parameters, or one of more than 65535 bytes");
    return;
  }
  if (const auto length = request.params.find("CONTENT_LENGTH"); length && !length->empty())
    request.has_length = parse_length(*length, request.body_expected);
  if (owner_.request_received(request))
    session_.forget(id);
}

void Client::on_body(std::uint16_t id, std::string_view data, bool last) {
  Request *request = open() ? find(id) : nullptr;
  if (request == nullptr || request->body_complete)
    return;
  // Bytes beyond CONTENT_LENGTH would stay in the worker's socket and be taken for the head of its next request.
  if (request->has_length)
    data = data.substr(0, request->body_expected - request->body_received);
  request->body_received += data.size();
  fcgi::append_stream(request->body, fcgi::RecordType::kStdin, 1, data);
  if (last)
    body_finished(*request);
  if (request->state == RequestState::kReceiving) {
    if (request->body_complete || request->body.size() >= settings_.request_buffer)
      owner_.request_ready(*request);
  } else if (request->state == RequestState::kRunning) {
    owner_.request_body(*request);
  }
}

void Client::body_finished(Request &request) {
  fcgi::append_stream_end(request.body, fcgi::RecordType::kStdin, 1);
  request.body_complete = true;
}

void Client::on_abort(std::uint16_t id) {
  Request *request = find(id);
  if (request == nullptr)
    return;
  owner_.request_abandoned(*request);
  finish(*request, true);
}

void Client::on_reply(std::string_view bytes) {
  send(bytes);
}

void Client::send(std::string_view records) {
  if (!open())
    return;
  if (out_.empty()) {
    ssize_t sent = 0;
    do
      sent = ::send(fd_.get(), records.data(), records.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
    while (sent < 0 && errno == EINTR);
    if (sent < 0 && errno != EAGAIN) {
      close();
      return;
    }
    if (sent > 0)
      records.remove_prefix(static_cast<std::size_t>(sent));
    if (records.empty())
      return;
  }
  out_.append(records);
  update_watch();
}

void Client::flush() {
  while (open() && out_sent_ < out_.size()) {
    const ssize_t sent =
        ::send(fd_.get(), out_.data() + out_sent_, out_.size() - out_sent_, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (sent < 0 && errno == EINTR)
      continue;
    if (sent < 0 && errno == EAGAIN)
      break;
    if (sent < 0) {
      close();
      return;
    }
    out_sent_ += static_cast<std::size_t>(sent);
  }
  if (!open())
    return;
  if (out_sent_ == out_.size()) {
    std::string().swap(out_);
    out_sent_ = 0;
    if (close_when_sent_) {
      end_of_output();
      return;
    }
  } else if (out_sent_ > settings_.response_buffer / 2) {
    out_.erase(0, out_sent_);
    out_sent_ = 0;
  }
  if (out_.size() - out_sent_ <= settings_.response_buffer / 2) {
    for (std::size_t i = 0; i < requests_.size(); ++i)
      owner_.client_has_room(*requests_[i]);
  }
  update_watch();
  if (idle())
    owner_.client_idle(*this);
}

void Client::remove(const Request &request) {
  std::erase_if(requests_, [&request](const auto &each) { return each.get() == &request; });
}

void Client::finish(Request &request, bool end_record) {
  request.state = RequestState::kAnswered;
  if (end_record) {
    std::string record;
    fcgi::append_end_request(record, request.id, 0, fcgi::ProtocolStatus::kRequestComplete);
    send(record);
  }
  const bool keep = request.keep;
  unread_body_ = unread_body_ || !request.body_complete;
  session_.forget(request.id);
  remove(request);
  if (!open())
    return;
  if (!keep || half_closed_) {
    if (!requests_.empty())
      return; // the last one closes
    close_when_sent_ = true;
    if (out_.empty()) {
      end_of_output();
      return;
    }
  }
  update_watch();
  if (idle())
    owner_.client_idle(*this);
}

void Client::cut(Request &request) {
  if (requests_.size() > 1) { // other requests share the connection: END_REQUEST with a status is all there is
    std::string record;
    fcgi::append_end_request(record, request.id, 1, fcgi::ProtocolStatus::kRequestComplete);
    send(record);
    finish(request, false);
    return;
  }
  request.state = RequestState::kAnswered;
  remove(request);
  close_when_sent_ = true;
  if (out_.empty())
    close();
  else
    update_watch();
}

// All is sent. A socket that is closed with unread bytes resets the connection, and the peer may lose the answer.
void Client::end_of_output() {
  if (!unread_body_ || half_closed_) {
    close();
    return;
  }
  lingering_ = true;
  (void)::shutdown(fd_.get(), SHUT_WR);
  update_watch();
  owner_.client_lingers(*this);
}

void Client::discard() {
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

void Client::abandon_all() {
  while (!requests_.empty()) {
    const std::unique_ptr<Request> request = std::move(requests_.back());
    requests_.pop_back();
    if (request->state != RequestState::kAnswered)
      owner_.request_abandoned(*request);
  }
}

void Client::close() {
  watch_.set(0);
  fd_.reset();
  if (!reported_) {
    reported_ = true;
    owner_.client_closed(*this);
  }
}

} // namespace tqfpm::dispatcher
