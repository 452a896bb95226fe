#include "sys/files.h"

#include <dirent.h>
#include <fcntl.h>
#include <glob.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <csignal>
#include <cstdlib>
#include <cstring>

namespace tqfpm::sys {

Result<std::string> read_fd(int fd) {
  std::string content;
  char buffer[16384];
  off_t offset = 0;
  while (true) {
    const ssize_t got = ::pread(fd, buffer, sizeof buffer, offset);
    if (got < 0 && errno == EINTR)
      continue;
    if (got < 0)
      return Error{strerror(errno), errno};
    if (got == 0)
      return content;
    content.append(buffer, static_cast<std::size_t>(got));
    offset += got;
  }
}

Result<std::string> read_file(const std::string &path) {
  const Fd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOCTTY));
  if (!fd.valid())
    return Error{strerror(errno), errno};
  std::string content;
  char buffer[16384];
  while (true) {
    const ssize_t got = ::read(fd.get(), buffer, sizeof buffer);
    if (got < 0 && errno == EINTR)
      continue;
    if (got < 0)
      return Error{strerror(errno), errno};
    if (got == 0)
      return content;
    content.append(buffer, static_cast<std::size_t>(got));
  }
}

Result<std::vector<std::string>> glob_files(const std::string &pattern) {
  glob_t found{};
  const int rc = ::glob(pattern.c_str(), GLOB_ERR, nullptr, &found);
  std::vector<std::string> files;
  for (std::size_t i = 0; rc == 0 && i < found.gl_pathc; ++i)
    files.emplace_back(found.gl_pathv[i]);
  ::globfree(&found);
  if (rc == GLOB_NOSPACE)
    return Error{"out of memory", ENOMEM};
  if (rc == GLOB_ABORTED)
    return Error{strerror(errno), errno};
  return files;
}

std::vector<std::string> folders_in(const std::string &path) {
  std::vector<std::string> names;
  DIR *folder = ::opendir(path.c_str());
  if (folder == nullptr)
    return names;
  while (const dirent *entry = ::readdir(folder)) {
    const std::string name = entry->d_name;
    if (name != "." && name != ".." && is_folder(path + "/" + name))
      names.push_back(name);
  }
  ::closedir(folder);
  std::sort(names.begin(), names.end());
  return names;
}

bool is_executable(const std::string &path) {
  struct stat info {};
  return ::stat(path.c_str(), &info) == 0 && S_ISREG(info.st_mode) && ::access(path.c_str(), X_OK) == 0;
}

bool is_folder(const std::string &path) {
  struct stat info {};
  return ::stat(path.c_str(), &info) == 0 && S_ISDIR(info.st_mode);
}

bool is_readable(const std::string &path) {
  return ::access(path.c_str(), R_OK) == 0;
}

std::optional<std::string> find_program(const std::string &name) {
  if (name.find('/') != std::string::npos)
    return is_executable(name) ? std::optional(name) : std::nullopt;
  const char *set = std::getenv("PATH");
  std::string path = set != nullptr ? set : "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
  for (std::size_t start = 0; start <= path.size();) {
    const std::size_t end = std::min(path.find(':', start), path.size());
    const std::string candidate = path.substr(start, end - start) + "/" + name;
    if (candidate.front() == '/' && is_executable(candidate))
      return candidate;
    start = end + 1;
  }
  return std::nullopt;
}

PidFile::~PidFile() {
  remove();
}

void PidFile::remove() {
  if (path_.empty())
    return;
  const auto content = read_file(path_);
  if (content.ok() && content.value() == std::to_string(::getpid()) + "\n")
    ::unlink(path_.c_str());
  path_.clear();
}

void PidFile::adopt(const std::string &path) {
  path_ = path;
}

namespace {

// Is the process in an existing pid file alive, another one, and running the same program as we?
std::optional<pid_t> living_twin(const std::string &path) {
  const auto content = read_file(path);
  if (!content.ok())
    return std::nullopt;
  pid_t pid = 0;
  const std::string &text = content.value();
  std::from_chars(text.data(), text.data() + text.size(), pid);
  if (pid <= 1 || pid == ::getpid() || (::kill(pid, 0) != 0 && errno != EPERM))
    return std::nullopt;
  const auto theirs = read_file("/proc/" + std::to_string(pid) + "/comm");
  const auto ours = read_file("/proc/self/comm");
  if (!theirs.ok() || !ours.ok() || theirs.value() != ours.value())
    return std::nullopt;
  return pid;
}

} // namespace

Status PidFile::write(const std::string &path) {
  if (const auto twin = living_twin(path))
    return Error{"pid file '" + path + "' belongs to a running tqfpm, pid " + std::to_string(*twin) +
                     "; stop it or set another pid file",
                 EEXIST};
  std::string temporary = path + ".XXXXXX";
  const auto fail = [&path] { return Error{"cannot write pid file '" + path + "': " + strerror(errno), errno}; };
  const Fd fd(::mkostemp(temporary.data(), O_CLOEXEC));
  if (!fd.valid())
    return fail();
  const std::string text = std::to_string(::getpid()) + "\n";
  if (::write(fd.get(), text.data(), text.size()) != static_cast<ssize_t>(text.size()) ||
      ::fchmod(fd.get(), 0644) != 0 || ::rename(temporary.c_str(), path.c_str()) != 0) {
    const Error error = fail();
    ::unlink(temporary.c_str());
    return error;
  }
  path_ = path;
  return success();
}

} // namespace tqfpm::sys
