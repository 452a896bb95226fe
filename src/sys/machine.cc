#include "sys/machine.h"

#include <dirent.h>
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cctype>
#include <cerrno>
#include <cstring>

#include "base/text.h"
#include "sys/fd.h"
#include "sys/files.h"
#include "sys/socket.h"

namespace tqfpm::sys {

namespace {

std::vector<std::string> process_ids() {
  std::vector<std::string> pids;
  DIR *folder = ::opendir("/proc");
  if (folder == nullptr)
    return pids;
  while (const dirent *entry = ::readdir(folder)) {
    if (std::isdigit(static_cast<unsigned char>(entry->d_name[0])) != 0)
      pids.emplace_back(entry->d_name);
  }
  ::closedir(folder);
  return pids;
}

std::string title_of(const std::string &pid) {
  const auto text = read_file("/proc/" + pid + "/cmdline");
  std::string title = text.ok() ? text.value() : "";
  std::replace(title.begin(), title.end(), '\0', ' ');
  return std::string(trim(title));
}

std::string named(const std::string &pid) {
  const std::string title = safe(title_of(pid));
  return "pid " + pid + (title.empty() ? "" : " (" + title + ")");
}

std::string unix_listener(const std::string &path) {
  const auto address = UnixAddress::of(path);
  if (!address)
    return "";
  const Fd probe(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  const int rc = probe.valid() ? ::connect(probe.get(), address->get(), address->size()) : -1;
  if (rc != 0 && errno != EAGAIN && errno != EACCES)
    return "";
  ucred peer{};
  socklen_t length = sizeof peer;
  if (rc != 0 || ::getsockopt(probe.get(), SOL_SOCKET, SO_PEERCRED, &peer, &length) != 0 || peer.pid <= 0)
    return "another process";
  return named(std::to_string(peer.pid));
}

bool holds(const std::string &pid, const std::string &socket) {
  const std::string path = "/proc/" + pid + "/fd";
  DIR *folder = ::opendir(path.c_str());
  bool found = false;
  while (folder != nullptr && !found) {
    const dirent *entry = ::readdir(folder);
    if (entry == nullptr)
      break;
    char target[64];
    const ssize_t length = ::readlink((path + "/" + entry->d_name).c_str(), target, sizeof target);
    found = length > 0 && socket == std::string_view(target, static_cast<std::size_t>(length));
  }
  if (folder != nullptr)
    ::closedir(folder);
  return found;
}

// "socket:[INODE]" of the listening socket with that port, from lines like
//   0: 0100007F:2328 00000000:0000 0A 00000000:00000000 00:00000000 00000000 0 0 54321 ...
std::string socket_of_port(const std::string &table, std::uint16_t port) {
  const auto text = read_file(table);
  const std::string wanted = fmt::format(":{:04X}", port);
  for (const std::string &line : text.ok() ? split(text.value(), "\n") : std::vector<std::string>()) {
    std::vector<std::string> words = split(line, " ");
    std::erase(words, "");
    if (words.size() > 9 && words[1].ends_with(wanted) && words[3] == "0A")
      return "socket:[" + words[9] + "]";
  }
  return "";
}

std::string tcp_listener(std::uint16_t port) {
  std::string socket = socket_of_port("/proc/net/tcp", port);
  if (socket.empty())
    socket = socket_of_port("/proc/net/tcp6", port);
  if (socket.empty())
    return "";
  for (const std::string &pid : process_ids()) {
    if (holds(pid, socket))
      return named(pid);
  }
  return "another process";
}

std::uint64_t number_in(const std::string &path) {
  const auto text = read_file(path);
  const auto number = text.ok() ? to_number(trim(text.value())) : std::nullopt; // "max" is none
  return number && *number > 0 ? static_cast<std::uint64_t>(*number) : 0;
}

std::uint64_t machine_memory() {
  const long pages = ::sysconf(_SC_PHYS_PAGES);
  const long size = ::sysconf(_SC_PAGESIZE);
  return pages > 0 && size > 0 ? static_cast<std::uint64_t>(pages) * static_cast<std::uint64_t>(size) : 0;
}

// Of all groups on the way to ours: cgroup v2, and v1's memory controller.
std::uint64_t group_memory() {
  std::uint64_t least = 0;
  const auto take = [&least](std::uint64_t bytes) {
    if (bytes > 0 && (least == 0 || bytes < least))
      least = bytes;
  };
  const auto groups = read_file("/proc/self/cgroup");
  for (const std::string &line : groups.ok() ? split(groups.value(), "\n") : std::vector<std::string>()) {
    const std::size_t first = line.find(':');
    const std::size_t second = first == std::string::npos ? first : line.find(':', first + 1);
    if (second == std::string::npos)
      continue;
    const std::string controllers = line.substr(first + 1, second - first - 1);
    const bool unified = controllers.empty();
    if (!unified && controllers.find("memory") == std::string::npos)
      continue;
    const std::string root = unified ? "/sys/fs/cgroup" : "/sys/fs/cgroup/memory";
    const std::string file = unified ? "/memory.max" : "/memory.limit_in_bytes";
    for (std::string path = line.substr(second + 1);; path.resize(path.rfind('/'))) {
      take(number_in(root + (path == "/" ? "" : path) + file));
      if (path.rfind('/') == std::string::npos)
        break;
    }
  }
  return least;
}

} // namespace

std::string listener_on(const ListenSpec &spec) {
  return spec.is_unix ? unix_listener(spec.path) : tcp_listener(spec.port);
}

std::vector<std::string> masters_called(const std::string &title) {
  std::vector<std::string> found;
  for (const std::string &pid : process_ids()) {
    if (title_of(pid).starts_with(title))
      found.push_back(named(pid));
  }
  return found;
}

MemoryLimit memory_limit() {
  const std::uint64_t machine = machine_memory();
  const std::uint64_t group = group_memory();
  if (group > 0 && (machine == 0 || group < machine))
    return {group, true};
  return {machine, false};
}

} // namespace tqfpm::sys
