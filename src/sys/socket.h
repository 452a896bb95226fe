// Sockets: pairs, listening sockets, packets with descriptors.
#pragma once

#include <sys/socket.h>
#include <sys/types.h>
#include <sys/un.h>

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
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

// The address of a Unix socket: connect(fd, address.get(), address.size()).
class UnixAddress {
public:
  // Longest path, in bytes.
  static constexpr std::size_t kMaxPath = sizeof(sockaddr_un::sun_path) - 1;
  // nullopt: the path is longer, or has a null byte.
  static std::optional<UnixAddress> of(std::string_view path);
  [[nodiscard]] const sockaddr *get() const { return reinterpret_cast<const sockaddr *>(&address_); }
  [[nodiscard]] socklen_t size() const { return sizeof address_; }

private:
  sockaddr_un address_{};
};

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
// The same where no descriptors are expected: what comes of them is closed by the kernel. The packet's whole length,
// also if `size` is less; 0: the peer has closed, -1: errno says.
ssize_t receive_plain(int socket, void *data, std::size_t size);
// Where the kernel can (Linux 6.16) nobody can pass this socket descriptors any more: the last close of one may block.
void refuse_descriptors(int socket);
// No descriptors or no memory for sockets at the moment: to be tried again later.
bool is_shortage(int code);

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
// What every connection inherits from a listening socket: over TCP, probes that find out when a peer has silently gone;
// a Unix socket takes no descriptors from its peers, since closing one may take as long as its sender likes (where the
// kernel has SO_PASSRIGHTS: Linux 6.16).
void prepare_listener(int fd);
// The address a listening socket is bound to: a path, "host:port" or "[v6]:port".
std::string bound_address(int fd);
// Peer of an accepted connection: "127.0.0.1" (also of a v4-mapped one), "::1", or "" for a Unix socket.
std::string peer_address(const void *sockaddr);

} // namespace tqfpm::sys
