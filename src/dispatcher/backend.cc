#include "dispatcher/backend.h"

#include <sys/socket.h>

#include <cerrno>
#include <cstring>

#include "dispatcher/client.h"
#include "fcgi/writer.h"
#include "ipc/control.h"

namespace tqfpm::dispatcher {

namespace {
// Shared by all workers: an incomplete record is copied out before the next read. Room for two records, at least.
constexpr std::size_t kReadSize = 256U << 10;
char read_buffer[kReadSize];
constexpr int kReadsPerTurn = 8;
} // namespace

void Backend::connect(sys::Fd connection) {
  watch_.reset();
  connection_ = std::move(connection);
  tail_.clear();
  upstream_.clear();
  written_ = 0;
  leftover_ = false;
  watch_ = std::make_unique<sys::IoWatch>(loop_, connection_.get(), [this](unsigned events) { on_events(events); });
  watch_->set(sys::kReadable);
}

// The watch may be the one whose callback runs: it is stopped here and replaced by the next connect().
void Backend::disconnect() {
  if (watch_ != nullptr)
    watch_->set(0);
  connection_.reset();
}

void Backend::update_watch() {
  if (connected())
    watch_->set((paused_ ? 0U : sys::kReadable) | (upstream_.empty() ? 0U : sys::kWritable));
}

void Backend::assign(Request &request, std::string head) {
  request_ = &request;
  total_written_ = 0;
  written_ = 0;
  head_size_ = head.size();
  upstream_ = std::move(head);
  upstream_.append(request.body);
  request.body.clear();
  paused_ = false;
  write();
}

void Backend::probe(std::string record) {
  probing = true;
  total_written_ = 0;
  written_ = 0;
  upstream_ = std::move(record);
  write();
}

void Backend::pump() {
  if (request_ == nullptr || !connected())
    return;
  if (paused_ && !request_->client->congested())
    paused_ = false;
  if (upstream_.empty())
    take_body();
  write();
}

void Backend::take_body() {
  if (request_ == nullptr || request_->body.empty())
    return;
  written_ = 0;
  upstream_.swap(request_->body);
  request_->body.clear();
  request_->client->resume();
}

void Backend::write() {
  while (written_ < upstream_.size()) {
    const ssize_t sent = ::send(connection_.get(), upstream_.data() + written_, upstream_.size() - written_,
                                MSG_NOSIGNAL | MSG_DONTWAIT);
    if (sent < 0 && errno == EINTR)
      continue;
    if (sent < 0 && errno == EAGAIN)
      break;
    if (sent < 0) {
      // Unread output may still be there (php-cgi closes when it ends in the middle of a request).
      if (total_written_ == 0) {
        if (request_ != nullptr) // another worker gets it, with its body
          request_->body.insert(0, upstream_, head_size_);
        lose(true);
      } else
        read();
      return;
    }
    written_ += static_cast<std::size_t>(sent);
    total_written_ += static_cast<std::uint64_t>(sent);
    if (written_ == upstream_.size()) {
      upstream_.clear();
      written_ = 0;
      take_body();
    }
  }
  update_watch();
}

void Backend::abandon() {
  request_ = nullptr;
  disconnect();
}

void Backend::lose(bool returned) {
  disconnect();
  owner_.worker_disconnected(*this, returned);
}

void Backend::on_events(unsigned events) {
  if ((events & sys::kWritable) != 0 && connected())
    write();
  if ((events & sys::kReadable) != 0 && connected() && !paused_)
    read();
}

void Backend::take_output() const {
  if (output == nullptr)
    return;
  output->drain();
  errors->drain();
  output->flush();
  errors->flush();
}

void Backend::drain() {
  paused_ = false;
  while (connected()) {
    const std::uint64_t before = request_ != nullptr ? request_->sent : 0;
    read();
    if (request_ == nullptr || request_->sent == before)
      break;
  }
}

void Backend::read() {
  for (int i = 0; i < kReadsPerTurn && connected() && !paused_; ++i) {
    const std::size_t have = tail_.size();
    memcpy(read_buffer, tail_.data(), have);
    const ssize_t got = ::recv(connection_.get(), read_buffer + have, kReadSize - have, MSG_DONTWAIT);
    if (got < 0 && errno == EINTR)
      continue;
    if (got < 0 && errno == EAGAIN)
      break;
    if (got <= 0) {
      lose(false);
      return;
    }
    const std::size_t length = have + static_cast<std::size_t>(got);
    tail_.clear();
    if (!scan(read_buffer, length) || length < kReadSize)
      break;
  }
  update_watch();
}

// False: do not read on.
bool Backend::scan(char *buffer, std::size_t length) {
  if (probing) {
    probing = false;
    owner_.worker_response(*this, std::string_view(buffer, length), fcgi::ResponseScan{});
    return false;
  }
  if (leftover_)
    return scan_leftover(buffer, length);
  if (request_ == nullptr) {
    owner_.worker_misbehaved(*this, "output without a request");
    return false;
  }
  const fcgi::ResponseScan scan = fcgi::scan_response(buffer, length, request_->id, ipc::kFinishedRecord);
  if (scan.ended)
    return request_ended(buffer, length, scan);
  if (!scan.finished)
    tail_.assign(buffer + scan.consumed, length - scan.consumed);
  if (scan.consumed > 0) {
    owner_.worker_response(*this, std::string_view(buffer, scan.consumed), scan);
    if (request_ != nullptr && request_->client->congested())
      paused_ = true;
  }
  if (scan.finished && request_ != nullptr && connected()) {
    owner_.worker_finished_early(*this);
    const std::size_t used = scan.consumed + fcgi::kHeaderLength;
    return scan_leftover(buffer + used, length - used);
  }
  if (scan.malformed)
    owner_.worker_misbehaved(*this, "malformed FastCGI");
  return connected() && !paused_;
}

bool Backend::request_ended(const char *buffer, std::size_t length, const fcgi::ResponseScan &scan) {
  // A body that PHP did not wait for would be taken for the next request: such a connection is not used again.
  if (!upstream_.empty() || !request_->body.empty() || !request_->body_complete)
    disconnect();
  Request &request = *request_;
  request_ = nullptr;
  ++served;
  upstream_.clear();
  written_ = 0;
  ended_request_ = &request;
  owner_.worker_response(*this, std::string_view(buffer, scan.consumed), scan);
  ended_request_ = nullptr;
  if (scan.consumed < length)
    owner_.worker_misbehaved(*this, "bytes after END_REQUEST");
  return false;
}

// PHP may still read the body: it gets what is here, and no more.
void Backend::let_go() {
  upstream_.append(request_->body);
  if (!request_->body_complete)
    fcgi::append_stream_end(upstream_, fcgi::RecordType::kStdin, 1);
  request_->body.clear();
  request_ = nullptr;
  leftover_ = true;
  paused_ = false;
  update_watch();
}

bool Backend::scan_leftover(char *buffer, std::size_t length) {
  const std::string_view all(buffer, length);
  const fcgi::ResponseScan scan = fcgi::scan_response(buffer, length, 1, ipc::kFinishedRecord);
  for (std::size_t at = 0; scan.stderr_seen && at < scan.consumed;) {
    const fcgi::Header header = fcgi::decode_header(all.substr(at));
    if (header.type == fcgi::RecordType::kStderr && header.content_length > 0)
      owner_.worker_muttered(*this, all.substr(at + fcgi::kHeaderLength, header.content_length));
    at += header.record_length();
  }
  if (scan.ended) {
    leftover_ = false;
    ++served;
    disconnect();
    owner_.worker_came_back(*this);
    return false;
  }
  if (scan.malformed || scan.finished) {
    owner_.worker_misbehaved(*this, "malformed FastCGI");
    return false;
  }
  tail_.assign(buffer + scan.consumed, length - scan.consumed);
  return connected();
}

} // namespace tqfpm::dispatcher
