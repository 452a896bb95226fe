#include "web/buffers.h"

#include <sys/socket.h>

#include <cerrno>

#include "base/text.h"

namespace tqfpm::web {

namespace {

constexpr std::size_t kKeptRoom = 4096; // of an idle connection's buffers

// Each byte is moved at most once for each byte that is used.
void drop_used(std::string &buffer, std::size_t &offset) {
  if (offset <= buffer.size() / 2)
    return;
  buffer.erase(0, offset);
  offset = 0;
}

ssize_t send_some(int fd, std::string_view bytes) {
  ssize_t sent = 0;
  do
    sent = ::send(fd, bytes.data(), bytes.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
  while (sent < 0 && errno == EINTR);
  return sent < 0 && (errno == EAGAIN || errno == EWOULDBLOCK) ? 0 : sent;
}

} // namespace

std::string_view InputBuffer::with(std::string_view fresh) {
  if (empty())
    return fresh;
  bytes_.append(fresh);
  return rest();
}

void InputBuffer::keep(std::string_view rest) {
  if (rest.empty()) {
    clear();
  } else if (empty()) {
    bytes_.assign(rest);
    used_ = 0;
  } else {
    used_ = bytes_.size() - rest.size();
    drop_used(bytes_, used_);
  }
}

void InputBuffer::clear() {
  tqfpm::empty(bytes_, kKeptRoom);
  used_ = 0;
}

bool OutputBuffer::send(int fd, std::string_view bytes) {
  if (unsent() == 0) {
    const ssize_t sent = send_some(fd, bytes);
    if (sent < 0)
      return false;
    bytes.remove_prefix(static_cast<std::size_t>(sent));
  }
  bytes_.append(bytes);
  return true;
}

OutputBuffer::Outcome OutputBuffer::flush(int fd) {
  Outcome outcome = Outcome::kStuck;
  while (unsent() > 0) {
    const ssize_t sent = send_some(fd, std::string_view(bytes_).substr(sent_));
    if (sent < 0)
      return Outcome::kBroken;
    if (sent == 0)
      break;
    sent_ += static_cast<std::size_t>(sent);
    outcome = Outcome::kTaken;
  }
  if (unsent() == 0)
    clear();
  else
    drop_used(bytes_, sent_);
  return outcome;
}

void OutputBuffer::clear() {
  empty(bytes_, kKeptRoom);
  sent_ = 0;
}

} // namespace tqfpm::web
