// Opening listening sockets.
#include <arpa/inet.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <sys/acl.h>
#include <sys/stat.h>

#include <cerrno>
#include <cstring>

#include "sys/socket.h"

namespace tqfpm::sys {

namespace {

Error bind_error(const ListenSpec &spec, int code) {
  return Error{"unable to bind listening socket for address '" + spec.text + "': " + strerror(code) + " (" +
                   std::to_string(code) + ")",
               code};
}

// Who answers on a Unix socket: "pid N (name)", as far as the kernel tells.
std::string holder_of(int connected) {
  ucred peer{};
  socklen_t length = sizeof peer;
  if (::getsockopt(connected, SOL_SOCKET, SO_PEERCRED, &peer, &length) != 0 || peer.pid <= 0)
    return "another process";
  std::string name;
  const Fd comm(::open(("/proc/" + std::to_string(peer.pid) + "/comm").c_str(), O_RDONLY | O_CLOEXEC));
  char buffer[64];
  const ssize_t got = comm.valid() ? ::read(comm.get(), buffer, sizeof buffer) : 0;
  if (got > 1)
    name = " (" + std::string(buffer, static_cast<std::size_t>(got) - 1) + ")";
  return "pid " + std::to_string(peer.pid) + name;
}

// A socket file that is in the way: removed when nobody answers, else an error.
Status clear_path(const ListenSpec &spec, const UnixAddress &address, std::vector<std::string> &notices) {
  struct stat info {};
  if (::lstat(spec.path.c_str(), &info) != 0)
    return success();
  if (!S_ISSOCK(info.st_mode))
    return Error{"cannot listen on '" + spec.path + "': the path exists and is no socket; move it away", EADDRINUSE};
  const Fd probe(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!probe.valid())
    return Error{std::string("cannot create a socket: ") + strerror(errno), errno};
  const int rc = ::connect(probe.get(), address.get(), address.size());
  if (rc == 0 || errno == EAGAIN)
    return Error{"Another FPM instance seems to already listen on " + spec.path + ": " + holder_of(probe.get()) +
                     "; stop it or choose another listen address",
                 EADDRINUSE};
  if (errno != ECONNREFUSED && errno != EPROTOTYPE)
    return bind_error(spec, errno);
  if (::unlink(spec.path.c_str()) != 0 && errno != ENOENT)
    return Error{"cannot remove the stale socket '" + spec.path + "': " + strerror(errno), errno};
  notices.push_back("replaced the stale socket '" + spec.path + "'");
  return success();
}

template <typename Id> bool add_acl_entry(acl_t &acl, acl_tag_t tag, Id id) {
  acl_entry_t entry = nullptr;
  acl_permset_t permissions = nullptr;
  return ::acl_create_entry(&acl, &entry) == 0 && ::acl_set_tag_type(entry, tag) == 0 &&
         ::acl_set_qualifier(entry, &id) == 0 && ::acl_get_permset(entry, &permissions) == 0 &&
         ::acl_clear_perms(permissions) == 0 && ::acl_add_perm(permissions, ACL_READ) == 0 &&
         ::acl_add_perm(permissions, ACL_WRITE) == 0;
}

// `node`: a path to the socket's inode, whatever happens to its name.
Status set_acl(const ListenSpec &spec, const std::string &node) {
  acl_t acl = ::acl_get_file(node.c_str(), ACL_TYPE_ACCESS);
  bool ok = acl != nullptr;
  for (const auto &[uid, name] : spec.acl_users)
    ok = ok && add_acl_entry(acl, ACL_USER, uid);
  for (const auto &[gid, name] : spec.acl_groups)
    ok = ok && add_acl_entry(acl, ACL_GROUP, gid);
  ok = ok && ::acl_calc_mask(&acl) == 0 && ::acl_valid(acl) == 0 &&
       ::acl_set_file(node.c_str(), ACL_TYPE_ACCESS, acl) == 0;
  const int code = errno;
  if (acl != nullptr)
    ::acl_free(acl);
  if (!ok)
    return Error{"cannot set the ACL of '" + spec.path + "': " + strerror(code), code};
  return success();
}

// Who may write into the folder can put a link or a file of others in the socket's place at any time.
Status set_access(const ListenSpec &spec) {
  const Fd socket(::open(spec.path.c_str(), O_PATH | O_NOFOLLOW | O_CLOEXEC));
  struct stat info {};
  if (!socket.valid() || ::fstat(socket.get(), &info) != 0 || !S_ISSOCK(info.st_mode))
    return Error{"somebody has taken the socket '" + spec.path + "' away: others may write into its folder", ESTALE};
  const std::string node = "/proc/self/fd/" + std::to_string(socket.get());
  const bool acl = !spec.acl_users.empty() || !spec.acl_groups.empty();
  if (spec.set_owner && ::fchownat(socket.get(), "", spec.uid, spec.gid, AT_EMPTY_PATH) != 0)
    return Error{"failed to chown() the socket '" + spec.path + "': " + strerror(errno), errno};
  if (::chmod(node.c_str(), acl ? 0600 : spec.mode) != 0)
    return Error{"failed to chmod() the socket '" + spec.path + "': " + strerror(errno), errno};
  return acl ? set_acl(spec, node) : success();
}

Result<Fd> listen_unix(const ListenSpec &spec, std::vector<std::string> &notices) {
  const auto address = UnixAddress::of(spec.path);
  if (!address)
    return Error{"socket path '" + spec.path + "' is longer than " + std::to_string(UnixAddress::kMaxPath) +
                     " bytes; choose a shorter one",
                 ENAMETOOLONG};
  Fd listener(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!listener.valid())
    return Error{std::string("cannot create a socket: ") + strerror(errno), errno};
  if (auto status = clear_path(spec, *address, notices); !status.ok())
    return status.error();
  // Nobody may connect before owner and mode are set.
  const mode_t old_mask = ::umask(0177);
  const int rc = ::bind(listener.get(), address->get(), address->size());
  const int code = errno;
  ::umask(old_mask);
  if (rc != 0)
    return bind_error(spec, code);
  if (auto status = set_access(spec); !status.ok()) {
    if (status.error().code != ESTALE)
      ::unlink(spec.path.c_str());
    return status.error();
  }
  if (::listen(listener.get(), spec.backlog) != 0)
    return Error{"cannot listen on '" + spec.text + "': " + strerror(errno), errno};
  return listener;
}

Result<Fd> bind_tcp(const ListenSpec &spec, const sockaddr *address, socklen_t length) {
  Fd fd(::socket(address->sa_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!fd.valid())
    return bind_error(spec, errno);
  const int on = 1;
  (void)::setsockopt(fd.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  if (::bind(fd.get(), address, length) != 0 || ::listen(fd.get(), spec.backlog) != 0)
    return bind_error(spec, errno);
  return fd;
}

// A port alone: IPv6 any, which takes IPv4 too; IPv4 any where that fails.
Result<Fd> listen_any(const ListenSpec &spec, std::vector<std::string> &notices) {
  sockaddr_in6 v6{};
  v6.sin6_family = AF_INET6;
  v6.sin6_port = htons(spec.port);
  auto first = bind_tcp(spec, reinterpret_cast<const sockaddr *>(&v6), sizeof v6);
  if (first.ok())
    return first;
  notices.emplace_back("Failed implicitly binding to ::, retrying with 0.0.0.0");
  sockaddr_in v4{};
  v4.sin_family = AF_INET;
  v4.sin_port = htons(spec.port);
  return bind_tcp(spec, reinterpret_cast<const sockaddr *>(&v4), sizeof v4);
}

Result<Fd> listen_tcp(const ListenSpec &spec, std::vector<std::string> &notices) {
  if (spec.host.empty())
    return listen_any(spec, notices);
  addrinfo hints{};
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_flags = AI_PASSIVE;
  addrinfo *found = nullptr;
  const int rc = ::getaddrinfo(spec.host.c_str(), std::to_string(spec.port).c_str(), &hints, &found);
  if (rc != 0)
    return Error{"cannot resolve hostname '" + spec.host + "' of listen address '" + spec.text +
                 "': " + gai_strerror(rc)};
  Error last{"no address for '" + spec.text + "'"};
  for (const addrinfo *each = found; each != nullptr; each = each->ai_next) {
    auto fd = bind_tcp(spec, each->ai_addr, each->ai_addrlen);
    if (fd.ok()) {
      ::freeaddrinfo(found);
      return fd;
    }
    last = fd.error();
  }
  ::freeaddrinfo(found);
  return last;
}

} // namespace

Result<Fd> listen_on(const ListenSpec &spec, std::vector<std::string> &notices) {
  return spec.is_unix ? listen_unix(spec, notices) : listen_tcp(spec, notices);
}

std::string bound_address(int fd) {
  sockaddr_storage address{};
  socklen_t length = sizeof address;
  if (::getsockname(fd, reinterpret_cast<sockaddr *>(&address), &length) != 0)
    return "";
  if (address.ss_family == AF_UNIX) {
    const auto *local = reinterpret_cast<const sockaddr_un *>(&address);
    return {local->sun_path, strnlen(local->sun_path, sizeof local->sun_path)};
  }
  char host[NI_MAXHOST];
  char port[NI_MAXSERV];
  if (::getnameinfo(reinterpret_cast<const sockaddr *>(&address), length, host, sizeof host, port, sizeof port,
                    NI_NUMERICHOST | NI_NUMERICSERV) != 0)
    return "";
  return address.ss_family == AF_INET6 ? "[" + std::string(host) + "]:" + port : std::string(host) + ":" + port;
}

} // namespace tqfpm::sys
