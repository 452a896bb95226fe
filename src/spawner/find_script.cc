#include "spawner/find_script.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>

#include "php/script_request.h"
#include "sys/fd.h"
#include "sys/process.h"

namespace tqfpm::spawner {

namespace {

std::uint32_t look(const std::string &whole) {
  const auto exists = [](const std::string &path) {
    struct stat status {};
    return ::stat(path.c_str(), &status) == 0;
  };
  const auto is_file = [](const std::string &path) {
    struct stat status {};
    return ::stat(path.c_str(), &status) == 0 && S_ISREG(status.st_mode);
  };
  return static_cast<std::uint32_t>(php::find_script(whole, exists, is_file));
}

} // namespace

// Links inside of a chroot may be absolute: only who is in it sees them as workers do.
std::uint32_t look_for_script(const std::string &path, const std::string &chroot) {
  if (chroot.empty())
    return look(path);
  int fds[2];
  if (::pipe2(fds, O_CLOEXEC) != 0)
    return 0;
  const sys::Fd reader(fds[0]);
  sys::Fd writer(fds[1]);
  const pid_t child = ::fork();
  if (child == 0) {
    const std::uint32_t found = ::chroot(chroot.c_str()) == 0 && ::chdir("/") == 0 ? look(path) : 0;
    ::_exit(::write(writer.get(), &found, sizeof found) == static_cast<ssize_t>(sizeof found) ? 0 : 1);
  }
  writer.reset();
  std::uint32_t found = 0;
  ssize_t got = 0;
  do
    got = ::read(reader.get(), &found, sizeof found);
  while (got < 0 && errno == EINTR);
  if (child > 0)
    (void)sys::wait_for(child);
  return got == static_cast<ssize_t>(sizeof found) ? found : 0;
}

} // namespace tqfpm::spawner
