#include "sys/place.h"

#include <fcntl.h>
#include <linux/magic.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <unistd.h>

#include <cerrno>
#include <climits>
#include <cstring>
#include <deque>

#include "base/text.h"

namespace tqfpm::sys {

namespace {

constexpr int kMostLinks = 40; // as the kernel's

Error cannot(int code) {
  return Error{strerror(code), code};
}

// The names of `path` come before those that are left.
void prepend(std::deque<std::string> &names, const std::string &path) {
  const std::vector<std::string> more = split(path, "/");
  names.insert(names.begin(), more.begin(), more.end());
}

Result<std::string> target_of(const Fd &link) {
  struct stat info {};
  if (::fstat(link.get(), &info) != 0)
    return cannot(errno);
  if (::geteuid() == 0 && info.st_uid != 0)
    return Error{
        "it leads over a symbolic link of user " + std::to_string(info.st_uid) + ", which root does not follow", ELOOP};
  char target[PATH_MAX];
  const ssize_t length = ::readlinkat(link.get(), "", target, sizeof target);
  if (length <= 0 || length == static_cast<ssize_t>(sizeof target))
    return cannot(length < 0 ? errno : ENAMETOOLONG);
  return std::string(target, static_cast<std::size_t>(length));
}

bool in_proc(const Fd &folder) {
  struct statfs info {};
  return ::fstatfs(folder.get(), &info) == 0 && info.f_type == PROC_SUPER_MAGIC;
}

bool is_link(const Fd &fd) {
  struct stat info {};
  return ::fstat(fd.get(), &info) == 0 && S_ISLNK(info.st_mode);
}

} // namespace

int descriptor_named(const std::string &path) {
  if (path == "/dev/stdout" || path == "/dev/fd/1" || path == "/proc/self/fd/1")
    return STDOUT_FILENO;
  if (path == "/dev/stderr" || path == "/dev/fd/2" || path == "/proc/self/fd/2")
    return STDERR_FILENO;
  return -1;
}

Result<Place> place_of(const std::string &path) {
  const auto root = [] { return Fd(::open("/", O_PATH | O_DIRECTORY | O_CLOEXEC)); };
  std::deque<std::string> names;
  prepend(names, path);
  Place place{path.starts_with("/") ? root() : Fd(::open(".", O_PATH | O_DIRECTORY | O_CLOEXEC)), "."};
  for (int links = 0; !names.empty();) {
    const std::string name = names.front();
    names.pop_front();
    Fd fd(::openat(place.folder.get(), name.c_str(), O_PATH | O_NOFOLLOW | O_CLOEXEC));
    if (fd.valid() && is_link(fd)) {
      if (names.empty() && in_proc(place.folder))
        return Place{std::move(place.folder), name, true};
      const auto target = target_of(fd);
      if (!target.ok())
        return target.error();
      if (++links > kMostLinks)
        return cannot(ELOOP);
      if (descriptor_named(target.value()) >= 0 && names.empty())
        return Place{root(), target.value()};
      if (target.value().front() == '/')
        place.folder = root();
      prepend(names, target.value());
      continue;
    }
    if (names.empty()) {
      place.name = name;
      return place;
    }
    if (!fd.valid())
      return cannot(errno);
    place.folder = std::move(fd);
  }
  return place;
}

} // namespace tqfpm::sys
