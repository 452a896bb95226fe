#include "sys/process.h"

#include <fcntl.h>
#include <linux/close_range.h>
#include <poll.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstring>
#include <string_view>

#include "sys/child_exec.h"
#include "sys/fd.h"

namespace tqfpm::sys {

namespace {

// False: the time is up.
bool read_all(int fd, TimePoint deadline, std::string &text) {
  char buffer[4096];
  while (true) {
    const auto left = std::chrono::duration_cast<milliseconds>(deadline - Clock::now()).count();
    pollfd state{fd, POLLIN, 0};
    const int ready = left > 0 ? ::poll(&state, 1, static_cast<int>(left)) : 0;
    if (ready < 0 && errno == EINTR)
      continue;
    if (ready <= 0)
      return false;
    const ssize_t got = ::read(fd, buffer, sizeof buffer);
    if (got < 0 && errno == EINTR)
      continue;
    if (got <= 0)
      return true;
    if (text.size() < kMostOutput)
      text.append(buffer, static_cast<std::size_t>(got));
  }
}

// It has closed its output, and ends, or is ended. False: the time is up.
bool wait_until(pid_t pid, TimePoint deadline, int &status) {
  constexpr timespec kPause{0, 1000000};
  while (Clock::now() < deadline) {
    const pid_t ended = ::waitpid(pid, &status, WNOHANG);
    if (ended == pid)
      return true;
    if (ended < 0 && errno != EINTR) {
      status = -1;
      return true;
    }
    (void)::nanosleep(&kPause, nullptr);
  }
  (void)::kill(pid, SIGKILL);
  (void)wait_for(pid);
  return false;
}

} // namespace

// Not where it is not needed: the default takes away a SIGCHLD that waits to be taken after an exec.
void keep_ends_of_children() {
  struct sigaction action {};
  if (::sigaction(SIGCHLD, nullptr, &action) == 0 && action.sa_handler == SIG_IGN)
    (void)::signal(SIGCHLD, SIG_DFL);
}

int wait_for(pid_t pid) noexcept {
  int status = 0;
  pid_t ended = 0;
  do
    ended = ::waitpid(pid, &status, 0);
  while (ended < 0 && errno == EINTR);
  return ended == pid ? status : -1;
}

std::optional<EndedChild> next_ended_child() noexcept {
  int status = 0;
  pid_t pid = 0;
  do
    pid = ::waitpid(-1, &status, WNOHANG);
  while (pid < 0 && errno == EINTR);
  return pid > 0 ? std::optional(EndedChild{pid, status}) : std::nullopt;
}

void protect_open_descriptors() {
  if (::close_range(3, ~0U, CLOSE_RANGE_CLOEXEC) == 0)
    return;
  const long most = ::sysconf(_SC_OPEN_MAX); // a kernel before 5.11
  for (int fd = 3; fd < static_cast<int>(std::min(most, 65536L)); ++fd)
    (void)::fcntl(fd, F_SETFD, FD_CLOEXEC);
}

Result<RunningProgram> start_program(const std::string &path, const std::vector<std::string> &arguments,
                                     const std::vector<std::string> &without, const std::optional<ExecUser> &user) {
  int fds[2];
  if (::pipe2(fds, O_CLOEXEC) != 0)
    return Error{std::string("cannot create a pipe: ") + strerror(errno), errno};
  Fd reader(fds[0]);
  const Fd writer(fds[1]);
  const Fd null(::open("/dev/null", O_RDONLY | O_CLOEXEC));
  ExecPlan plan;
  plan.path = path;
  plan.arguments = arguments;
  plan.user = user;
  for (char **entry = environ; *entry != nullptr; ++entry) {
    const std::string_view text = *entry;
    const std::string_view name = text.substr(0, text.find('='));
    const bool harmless = name == "PATH" || name == "LD_LIBRARY_PATH"; // others may tell that user something of ours
    if ((!user || harmless) && std::find(without.begin(), without.end(), name) == without.end())
      plan.environment.emplace_back(text);
  }
  plan.fds = {{null.get(), 0}, {writer.get(), 1}, {writer.get(), 2}};
  const ExecResult child = child_exec(plan);
  if (child.pid < 0)
    return Error{std::string(stage_text(child.stage)) + " " + path + ": " + strerror(child.error), child.error};
  return RunningProgram{child.pid, std::move(reader)};
}

Result<Output> run_program(const std::string &path, const std::vector<std::string> &arguments, Duration limit,
                           const std::vector<std::string> &without, const std::optional<ExecUser> &user) {
  const auto child = start_program(path, arguments, without, user);
  if (!child.ok())
    return child.error();
  Output output;
  const TimePoint deadline = Clock::now() + limit;
  const bool complete = read_all(child.value().output.get(), deadline, output.text);
  if (!complete) {
    (void)::kill(child.value().pid, SIGKILL);
    (void)wait_for(child.value().pid);
  }
  if (!complete || !wait_until(child.value().pid, deadline, output.status))
    return Error{path + " did not end in time"};
  return output;
}

} // namespace tqfpm::sys
