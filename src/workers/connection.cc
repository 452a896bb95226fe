#include "workers/connection.h"

#include <sys/socket.h>

#include <cerrno>
#include <cstring>

#include "base/text.h"
#include "fcgi/writer.h"
#include "ipc/control.h"

namespace tqfpm::workers {

namespace {
// Shared by all connections: an incomplete record is copied out before the next read. Room for two records, at least.
constexpr std::size_t kReadSize = 256U << 10;
constexpr int kMostReads = 8; // of one that has ended: others may hold its connection, and write
constexpr std::size_t kKeptRoom = 16U << 10;
char read_buffer[kReadSize];
} // namespace

void Connection::open(sys::EventLoop &loop, sys::Fd fd, Note note) {
  close();
  fd_ = std::move(fd);
  watch_ = std::make_unique<sys::IoWatch>(loop, fd_.get(), [this, note = std::move(note)](unsigned events) {
    noted_ |= events;
    note();
  });
  watch();
}

void Connection::close() {
  watch_.reset();
  fd_.reset();
  mode_ = Mode::kIdle;
  tail_.clear();
  clear_upstream();
  noted_ = 0;
  whole_ = true;
  ends_early_ = held_ = more_ = unscanned_ = false;
}

// A body's memory is not kept for the next one.
void Connection::clear_upstream() {
  empty(upstream_, kKeptRoom);
  written_ = 0;
}

void Connection::watch() {
  if (connected())
    watch_->set((held_ ? 0U : sys::kReadable) | (unsent() > 0 ? sys::kWritable : 0U));
}

void Connection::hold(bool on) {
  held_ = on;
  watch();
}

Connection::Sent Connection::begin(std::string head, std::string &body, bool whole, std::uint16_t client_id) {
  mode_ = Mode::kRequest;
  empty(tail_, kKeptRoom);
  client_id_ = client_id;
  total_written_ = 0;
  written_ = 0;
  head_size_ = head.size();
  upstream_ = std::move(head);
  upstream_.append(body);
  body.clear();
  whole_ = whole;
  held_ = false;
  return send(&body);
}

Connection::Sent Connection::probe(std::string record) {
  mode_ = Mode::kProbe;
  total_written_ = 0;
  written_ = 0;
  upstream_ = std::move(record);
  whole_ = true;
  return send(nullptr);
}

Connection::Sent Connection::pump(std::string &body, bool whole) {
  if (!connected())
    return Sent::kBroken;
  const Sent sent = send(&body);
  if (sent != Sent::kOk || unsent() > 0 || mode_ != Mode::kRequest)
    return sent;
  whole_ = whole;
  if (body.empty())
    return sent;
  upstream_.swap(body);
  body.clear();
  return send(&body);
}

Connection::Sent Connection::send(std::string *body) {
  while (unsent() > 0) {
    const ssize_t sent = ::send(fd_.get(), upstream_.data() + written_, unsent(), MSG_NOSIGNAL | MSG_DONTWAIT);
    if (sent < 0 && errno == EINTR)
      continue;
    if (sent < 0 && errno == EAGAIN) {
      watch();
      return Sent::kOk;
    }
    if (sent < 0)
      break;
    written_ += static_cast<std::size_t>(sent);
    total_written_ += static_cast<std::uint64_t>(sent);
  }
  const bool failed = unsent() > 0;
  if (failed && total_written_ == 0) {
    if (body != nullptr && mode_ == Mode::kRequest) // another worker gets it, with its body
      body->insert(0, upstream_, head_size_);
    close();
    return Sent::kReturned;
  }
  // What PHP has not taken it will not take; what it has written (it closes when it ends in the middle of a request)
  // is still here to be read.
  clear_upstream();
  if (ends_early_ && whole_)
    (void)::shutdown(fd_.get(), SHUT_WR);
  watch();
  return failed ? Sent::kBroken : Sent::kOk;
}

Connection::Received Connection::read(bool all) {
  more_ = false;
  if (unscanned_) {
    const std::size_t length = tail_.size();
    memcpy(read_buffer, tail_.data(), length);
    tail_.clear();
    unscanned_ = false;
    more_ = true;
    return scan(read_buffer, length);
  }
  for (int reads = 0; connected() && (!held_ || all) && reads < kMostReads; ++reads) {
    const std::size_t have = tail_.size();
    memcpy(read_buffer, tail_.data(), have);
    const ssize_t got = ::recv(fd_.get(), read_buffer + have, kReadSize - have, MSG_DONTWAIT);
    if (got < 0 && errno == EINTR)
      continue;
    if (got < 0 && errno == EAGAIN)
      return {};
    if (got <= 0) {
      close();
      Received received;
      received.what = Received::What::kClosed;
      return received;
    }
    const std::size_t length = have + static_cast<std::size_t>(got);
    tail_.clear();
    more_ = length == kReadSize;
    Received received = scan(read_buffer, length);
    if (!all || received.what != Received::What::kNothing || received.fault != nullptr)
      return received;
  }
  return {};
}

Connection::Received Connection::scan(char *buffer, std::size_t length) {
  Received received;
  switch (mode_) {
  case Mode::kRequest:
    return scan_answer(buffer, length);
  case Mode::kLeftover:
    return scan_leftover(buffer, length);
  case Mode::kProbe:
    close();
    received.what = Received::What::kProbed;
    return received;
  case Mode::kIdle:
    break;
  }
  received.fault = "output without a request";
  return received;
}

Connection::Received Connection::scan_answer(char *buffer, std::size_t length) {
  Received received;
  received.scan = fcgi::scan_response(buffer, length, client_id_, ipc::kFinishedRecord);
  const fcgi::ResponseScan &found = received.scan;
  received.records = std::string_view(buffer, found.consumed);
  if (found.ended) {
    received.what = Received::What::kEnded;
    if (found.consumed < length)
      received.fault = "bytes after END_REQUEST";
    // A body that PHP did not wait for would be taken for the next request: such a connection is not used again.
    if (unsent() > 0 || !whole_ || ends_early_)
      close();
    mode_ = Mode::kIdle;
    return received;
  }
  if (found.finished) {
    received.what = Received::What::kFinished;
    const std::size_t used = found.consumed + fcgi::kHeaderLength;
    keep(buffer + used, length - used);
    unscanned_ = more_ = used < length;
    return received;
  }
  if (found.consumed > 0)
    received.what = Received::What::kAnswer;
  if (found.malformed)
    received.fault = "malformed FastCGI";
  else
    keep(buffer + found.consumed, length - found.consumed);
  return received;
}

void Connection::let_go(std::string &body, bool whole) {
  if (!connected())
    return;
  // PHP may still read the body: it gets its end now.
  upstream_.append(body);
  body.clear();
  if (!whole_ && !whole)
    fcgi::append_stream_end(upstream_, fcgi::RecordType::kStdin, 1);
  whole_ = true;
  mode_ = Mode::kLeftover;
  held_ = false;
  watch();
}

Connection::Received Connection::scan_leftover(char *buffer, std::size_t length) {
  Received received;
  const std::string_view all(buffer, length);
  const fcgi::ResponseScan found = fcgi::scan_response(buffer, length, 1, ipc::kFinishedRecord);
  for (std::size_t at = 0; found.stderr_seen && at < found.consumed;) {
    const fcgi::Header header = fcgi::decode_header(all.substr(at));
    if (header.type == fcgi::RecordType::kStderr && header.content_length > 0) {
      received.muttered += received.muttered.empty() ? "" : "\n";
      received.muttered += all.substr(at + fcgi::kHeaderLength, header.content_length);
    }
    at += header.record_length();
  }
  if (!received.muttered.empty())
    received.what = Received::What::kMuttered;
  if (found.ended) {
    close();
    received.what = Received::What::kCameBack;
  } else if (found.malformed || found.finished) {
    received.fault = "malformed FastCGI";
  } else {
    keep(buffer + found.consumed, length - found.consumed);
  }
  return received;
}

} // namespace tqfpm::workers
