// Sockets: pairs, listening sockets, packets with descriptors.
#pragma once

#include <sys/types.h>

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "base/result.h"
#include "sys/fd.h"

namespace tqfpm::sys {

struct SocketPair {
  Fd ours;
  Fd theirs;
};
// Both ends close-on-exec; `ours` does not block, `theirs` does.
Result<SocketPair> packet_pair(); // SOCK_SEQPACKET
Result<SocketPair> stream_pair(); // SOCK_STREAM

// A pipe for the output of a child: `ours`, the end to read from, does not block.
Result<SocketPair> output_pipe();

Status set_nonblocking(int fd, bool on);

// Sends one packet with descriptors (at most kMaxFds). False with errno set: not sent (EAGAIN: full).
inline constexpr std::size_t kMaxFds = 8;
bool send_packet(int socket, const void *data, std::size_t length, std::span<const int> fds);

// One received packet. `length` 0: the peer has closed, -1: errno says (EAGAIN: nothing there).
struct Packet {
  ssize_t length = -1;
  bool truncated = false; // data or descriptors were lost
  std::vector<Fd> fds;    // close-on-exec
};
Packet receive_packet(int socket, void *data, std::size_t size);

// What to listen on and how. Unix: path; TCP: host ("" = any address) and port.
struct ListenSpec {
  bool is_unix = false;
  std::string text; // for messages
  std::string path;
  std::string host;
  std::uint16_t port = 0;
  int backlog = 511;
  // Unix sockets:
  bool set_owner = false;
  uid_t uid = 0;
  gid_t gid = 0;
  mode_t mode = 0660;
  std::vector<std::pair<uid_t, std::string>> acl_users; // id, name
  std::vector<std::pair<gid_t, std::string>> acl_groups;
};
// Opens a non-blocking listening socket. A stale Unix socket file is replaced; one that is in use is refused and the
// message says by whom, as far as it can be seen. `notices` gets what an operator should know, also when it fails.
Result<Fd> listen_on(const ListenSpec &spec, std::vector<std::string> &notices);
// The address a listening socket is bound to: a path, "host:port" or "[v6]:port".
std::string bound_address(int fd);
// Peer of an accepted connection: "127.0.0.1" (also of a v4-mapped one), "::1", or "" for a Unix socket.
std::string peer_address(const void *sockaddr);

} // namespace tqfpm::sys
