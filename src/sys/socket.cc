#include "sys/socket.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>

#include <cerrno>
#include <cstring>

namespace tqfpm::sys {

namespace {
Result<SocketPair> make_pair_of(int type) {
  int fds[2];
  if (::socketpair(AF_UNIX, type | SOCK_CLOEXEC, 0, fds) != 0)
    return Error{std::string("cannot create a socket pair: ") + strerror(errno), errno};
  SocketPair pair{Fd(fds[0]), Fd(fds[1])};
  if (auto status = set_nonblocking(fds[0], true); !status.ok())
    return status.error();
  return pair;
}
} // namespace

Result<SocketPair> packet_pair() {
  return make_pair_of(SOCK_SEQPACKET);
}
Result<SocketPair> stream_pair() {
  return make_pair_of(SOCK_STREAM);
}

Result<SocketPair> output_pipe() {
  int fds[2];
  if (::pipe2(fds, O_CLOEXEC) != 0)
    return Error{std::string("cannot create a pipe: ") + strerror(errno), errno};
  SocketPair pipe{Fd(fds[0]), Fd(fds[1])};
  if (auto status = set_nonblocking(pipe.ours.get(), true); !status.ok())
    return status.error();
  return pipe;
}

Status set_nonblocking(int fd, bool on) {
  const int flags = ::fcntl(fd, F_GETFL);
  if (flags < 0 || ::fcntl(fd, F_SETFL, on ? flags | O_NONBLOCK : flags & ~O_NONBLOCK) < 0)
    return Error{std::string("cannot set O_NONBLOCK: ") + strerror(errno), errno};
  return success();
}

std::optional<UnixAddress> UnixAddress::of(std::string_view path) {
  if (path.size() > kMaxPath || path.find('\0') != std::string_view::npos)
    return std::nullopt;
  UnixAddress result;
  result.address_.sun_family = AF_UNIX;
  memcpy(result.address_.sun_path, path.data(), path.size());
  return result;
}

bool send_packet(int socket, const void *data, std::size_t length, std::span<const int> fds) {
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int) * kMaxFds)] = {};
  iovec part{const_cast<void *>(data), length}; // NOLINT(cppcoreguidelines-pro-type-const-cast): sendmsg only reads
  msghdr message{};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  if (!fds.empty()) {
    TQFPM_ASSERT(fds.size() <= kMaxFds);
    message.msg_control = control;
    message.msg_controllen = CMSG_SPACE(sizeof(int) * fds.size());
    cmsghdr *header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(sizeof(int) * fds.size());
    memcpy(CMSG_DATA(header), fds.data(), sizeof(int) * fds.size());
  }
  ssize_t sent = 0;
  do
    sent = ::sendmsg(socket, &message, MSG_NOSIGNAL);
  while (sent < 0 && errno == EINTR);
  return sent == static_cast<ssize_t>(length);
}

Packet receive_packet(int socket, void *data, std::size_t size) {
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int) * kMaxFds)];
  iovec part{data, size};
  msghdr message{};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  message.msg_control = control;
  message.msg_controllen = sizeof control;
  Packet packet;
  do
    packet.length = ::recvmsg(socket, &message, MSG_CMSG_CLOEXEC);
  while (packet.length < 0 && errno == EINTR);
  if (packet.length < 0)
    return packet;
  packet.truncated = (message.msg_flags & (MSG_TRUNC | MSG_CTRUNC)) != 0;
  for (cmsghdr *header = CMSG_FIRSTHDR(&message); header != nullptr; header = CMSG_NXTHDR(&message, header)) {
    if (header->cmsg_level != SOL_SOCKET || header->cmsg_type != SCM_RIGHTS)
      continue;
    const std::size_t count = (header->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    for (std::size_t i = 0; i < count; ++i) {
      int fd = -1;
      memcpy(&fd, CMSG_DATA(header) + i * sizeof(int), sizeof fd);
      packet.fds.emplace_back(fd);
    }
  }
  return packet;
}

// A peer that has closed with something unread leaves ECONNRESET, once, in front of what it has sent before.
ssize_t receive_plain(int socket, void *data, std::size_t size) {
  ssize_t got = 0;
  bool reset = false;
  do
    got = ::recv(socket, data, size, MSG_TRUNC | MSG_DONTWAIT);
  while (got < 0 && (errno == EINTR || (errno == ECONNRESET && !std::exchange(reset, true))));
  return got;
}

void refuse_descriptors(int socket) {
#ifndef SO_PASSRIGHTS
  constexpr int SO_PASSRIGHTS = 83; // the headers may be older than the kernel
#endif
  const int off = 0;
  (void)::setsockopt(socket, SOL_SOCKET, SO_PASSRIGHTS, &off, sizeof off);
}

bool is_shortage(int code) {
  return code == EMFILE || code == ENFILE || code == ENOMEM || code == ENOBUFS || code == ETOOMANYREFS;
}

std::string peer_address(const void *address) {
  const auto *any = static_cast<const sockaddr *>(address);
  char text[INET6_ADDRSTRLEN] = "";
  if (any->sa_family == AF_INET) {
    sockaddr_in v4{};
    memcpy(&v4, address, sizeof v4);
    inet_ntop(AF_INET, &v4.sin_addr, text, sizeof text);
  } else if (any->sa_family == AF_INET6) {
    sockaddr_in6 v6{};
    memcpy(&v6, address, sizeof v6);
    if (IN6_IS_ADDR_V4MAPPED(&v6.sin6_addr))
      inet_ntop(AF_INET, &v6.sin6_addr.s6_addr[12], text, sizeof text);
    else
      inet_ntop(AF_INET6, &v6.sin6_addr, text, sizeof text);
  }
  return text;
}

void prepare_listener(int fd) {
#ifndef SO_PASSRIGHTS
  constexpr int SO_PASSRIGHTS = 83; // the C library's headers are older than the kernel
#endif
  const auto set = [fd](int level, int option, int value) {
    (void)::setsockopt(fd, level, option, &value, sizeof value); // where it is not known it is done without
  };
  int domain = AF_UNIX;
  socklen_t length = sizeof domain;
  (void)::getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &length);
  if (domain == AF_UNIX) {
    set(SOL_SOCKET, SO_PASSRIGHTS, 0);
    return;
  }
  set(SOL_SOCKET, SO_KEEPALIVE, 1);
  set(IPPROTO_TCP, TCP_KEEPIDLE, 60);
  set(IPPROTO_TCP, TCP_KEEPINTVL, 10);
  set(IPPROTO_TCP, TCP_KEEPCNT, 6);
}

} // namespace tqfpm::sys
