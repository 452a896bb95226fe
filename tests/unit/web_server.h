// A web server for tests: the other end of a connection, and the bytes that it would send.
#pragma once

#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "fcgi/params.h"
#include "fcgi/writer.h"
#include "sys/fd.h"

namespace tqfpm::test {

using Pairs = std::vector<std::pair<std::string, std::string>>;

inline std::string record(fcgi::RecordType type, std::uint16_t id, std::string_view content) {
  std::string bytes;
  fcgi::append_header(bytes, type, id, content.size());
  return bytes + std::string(content);
}

inline std::string head(std::uint16_t id, bool keep, const Pairs &pairs = {}) {
  std::string bytes;
  fcgi::append_begin_request(bytes, id, fcgi::Role::kResponder, keep);
  std::string content;
  for (const auto &[name, value] : pairs)
    fcgi::append_pair(content, name, value);
  fcgi::append_params(bytes, id, content, "");
  return bytes;
}

inline std::string body(std::uint16_t id, std::string_view content, bool whole = true) {
  std::string bytes;
  fcgi::append_stream(bytes, fcgi::RecordType::kStdin, id, content);
  if (whole)
    fcgi::append_stream_end(bytes, fcgi::RecordType::kStdin, id);
  return bytes;
}

// A whole request.
inline std::string request(std::uint16_t id, bool keep, std::string_view content = "") {
  Pairs pairs = {{"REQUEST_METHOD", content.empty() ? "GET" : "POST"}, {"SCRIPT_FILENAME", "/x.php"}};
  if (!content.empty())
    pairs.emplace_back("CONTENT_LENGTH", std::to_string(content.size()));
  return head(id, keep, pairs) + body(id, content);
}

// What has come back: each request's output, and how it ended.
struct Answers {
  struct One {
    std::string output;
    int ends = 0;
    std::uint32_t app_status = 0;
  };
  std::vector<One> of_id = std::vector<One>(65536);
  std::size_t ends = 0;
  std::size_t others = 0; // records that are no request's
  std::string rest;       // an incomplete record

  void feed(std::string_view bytes) {
    rest += bytes;
    std::string_view left = rest;
    while (left.size() >= fcgi::kHeaderLength) {
      const fcgi::Header header = fcgi::decode_header(left);
      if (left.size() < header.record_length())
        break;
      const std::string_view content = left.substr(fcgi::kHeaderLength, header.content_length);
      One &one = of_id[header.id];
      if (header.type == fcgi::RecordType::kStdout)
        one.output += content;
      else if (header.type == fcgi::RecordType::kEndRequest) {
        ++one.ends;
        ++ends;
        one.app_status = static_cast<std::uint32_t>(fcgi::u16_at(content, 0)) << 16 | fcgi::u16_at(content, 2);
      } else if (header.type != fcgi::RecordType::kStderr)
        ++others;
      left.remove_prefix(header.record_length());
    }
    rest.erase(0, rest.size() - left.size());
  }
};

class WebServer {
public:
  WebServer() {
    int fds[2] = {-1, -1};
    if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, fds) == 0) {
      ours_ = sys::Fd(fds[0]);
      theirs_ = sys::Fd(fds[1]);
    }
  }
  explicit WebServer(sys::Fd connected) : ours_(std::move(connected)) {}
  sys::Fd take_other_end() { return std::move(theirs_); }

  // Sends as much as goes; the rest with the next call.
  void send(std::string_view bytes = {}) {
    unsent_ += bytes;
    while (!unsent_.empty() && ours_.valid()) {
      const ssize_t sent = ::send(ours_.get(), unsent_.data(), unsent_.size(), MSG_NOSIGNAL);
      if (sent <= 0)
        break;
      unsent_.erase(0, static_cast<std::size_t>(sent));
    }
  }
  [[nodiscard]] std::size_t unsent() const { return unsent_.size(); }
  // Reads what is there. True: the connection has ended.
  bool read(std::size_t most = SIZE_MAX) {
    char buffer[65536];
    while (ours_.valid() && most > 0) {
      const ssize_t got = ::recv(ours_.get(), buffer, std::min(sizeof buffer, most), 0);
      if (got > 0) {
        answers.feed(std::string_view(buffer, static_cast<std::size_t>(got)));
        most -= static_cast<std::size_t>(got);
      } else {
        ended = ended || got == 0 || (errno != EAGAIN && errno != EINTR);
        break;
      }
    }
    return ended;
  }
  // Tries to pass a descriptor with one byte.
  bool pass_descriptor() {
    char byte = 1;
    iovec data{&byte, 1};
    alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int))] = {};
    msghdr message{};
    message.msg_iov = &data;
    message.msg_iovlen = 1;
    message.msg_control = control;
    message.msg_controllen = sizeof control;
    cmsghdr *header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(sizeof(int));
    const int fd = ours_.get();
    memcpy(CMSG_DATA(header), &fd, sizeof fd);
    return ::sendmsg(ours_.get(), &message, MSG_NOSIGNAL) == 1;
  }
  void end_sending() { (void)::shutdown(ours_.get(), SHUT_WR); }
  void close() { ours_.reset(); }
  [[nodiscard]] bool open() const { return ours_.valid(); }

  Answers answers;
  bool ended = false;

private:
  sys::Fd ours_;
  sys::Fd theirs_;
  std::string unsent_;
};

} // namespace tqfpm::test
