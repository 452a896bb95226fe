#include "sys/child_exec.h"

#include <fcntl.h>
#include <grp.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <ctime>

#include "sys/fd.h"
#include "sys/process.h"

namespace tqfpm::sys {

namespace {

// What the child needs, laid out before the fork.
struct Prepared {
  const ExecPlan *plan;
  std::vector<char *> arguments;
  std::vector<char *> environment;
  std::vector<int> moved; // room for fds.size() descriptors
  int report;             // write end of the pipe
};

struct Report {
  std::int32_t pid; // > 0: the detached process; else a failure
  ExecStage stage;
  std::int32_t error;
};

void send_report(int fd, const Report &report) noexcept {
  ssize_t rc = 0;
  do
    rc = ::write(fd, &report, sizeof report);
  while (rc < 0 && errno == EINTR);
}

[[noreturn]] void give_up(const Prepared &prepared, ExecStage stage) noexcept {
  send_report(prepared.report, Report{-1, stage, errno});
  ::_exit(127);
}

void reset_signals() noexcept {
  struct sigaction action {};
  action.sa_handler = SIG_DFL;
  for (int number = 1; number < NSIG; ++number)
    (void)::sigaction(number, &action, nullptr); // SIGKILL, SIGSTOP and libc's own cannot be set: nothing to do
  sigset_t none;
  ::sigemptyset(&none);
  (void)::sigprocmask(SIG_SETMASK, &none, nullptr);
}

// All sources are moved out of the way first: the numbers of one mapping may be the sources of another.
bool place_fds(Prepared &prepared) noexcept {
  constexpr int kAbove = 64;
  const auto &fds = prepared.plan->fds;
  prepared.report = ::fcntl(prepared.report, F_DUPFD_CLOEXEC, kAbove);
  if (prepared.report < 0)
    return false;
  for (std::size_t i = 0; i < fds.size(); ++i) {
    prepared.moved[i] = ::fcntl(fds[i].first, F_DUPFD_CLOEXEC, kAbove);
    if (prepared.moved[i] < 0)
      return false;
  }
  for (std::size_t i = 0; i < fds.size(); ++i) {
    if (::dup2(prepared.moved[i], fds[i].second) < 0)
      return false;
  }
  return true;
}

bool set_limit(decltype(RLIMIT_NOFILE) what, std::uint64_t value) noexcept {
  const rlim_t number = value == UINT64_MAX ? RLIM_INFINITY : static_cast<rlim_t>(value);
  const rlimit limit{number, number};
  return ::setrlimit(what, &limit) == 0;
}

bool set_limits(const ExecPlan &plan) noexcept {
  return (!plan.limit_files || set_limit(RLIMIT_NOFILE, *plan.limit_files)) &&
         (!plan.limit_core || set_limit(RLIMIT_CORE, *plan.limit_core));
}

// As become() of privileges.h, with what may be called between fork and exec; the kernel takes the capabilities.
bool become_user(const ExecUser &user) noexcept {
  return ::setgroups(user.groups.size(), user.groups.data()) == 0 && ::setresgid(user.gid, user.gid, user.gid) == 0 &&
         ::setresuid(user.uid, user.uid, user.uid) == 0;
}

// "exec NAME": for the program that is executed next.
bool set_profile(const ExecPlan &plan) noexcept {
  const int fd = ::open(plan.apparmor_file.c_str(), O_WRONLY | O_CLOEXEC);
  return fd >= 0 &&
         ::write(fd, plan.apparmor.data(), plan.apparmor.size()) == static_cast<ssize_t>(plan.apparmor.size());
}

// The process between is about to exit. Until then its death would be the parent's.
void want_death_signal(const ExecPlan &plan, pid_t between) noexcept {
  constexpr timespec kPause{0, 100000};
  for (int i = 0; ::getppid() == between && i < 10000; ++i)
    (void)::nanosleep(&kPause, nullptr);
  (void)::prctl(PR_SET_PDEATHSIG, static_cast<unsigned long>(plan.death_signal), 0, 0, 0);
}

[[noreturn]] void run_child(Prepared &prepared, pid_t between) noexcept {
  const ExecPlan &plan = *prepared.plan;
  reset_signals();
  if (plan.death_signal != 0 && between > 0)
    want_death_signal(plan, between);
  if (plan.subreaper)
    (void)::prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0);
  if (plan.tracer > 0)
    (void)::prctl(PR_SET_PTRACER, static_cast<unsigned long>(plan.tracer), 0, 0, 0); // without yama there is no need
  if (!place_fds(prepared))
    give_up(prepared, ExecStage::kFds);
  if (!set_limits(plan))
    give_up(prepared, ExecStage::kLimits);
  if (plan.priority && ::setpriority(PRIO_PROCESS, 0, *plan.priority) != 0)
    give_up(prepared, ExecStage::kPriority);
  if (!plan.chroot.empty() && (::chroot(plan.chroot.c_str()) != 0 || ::chdir("/") != 0))
    give_up(prepared, ExecStage::kChroot);
  if (!plan.directory.empty() && ::chdir(plan.directory.c_str()) != 0)
    give_up(prepared, ExecStage::kChdir);
  if (!plan.apparmor.empty() && !set_profile(plan))
    give_up(prepared, ExecStage::kAppArmor);
  if (plan.user && !become_user(*plan.user))
    give_up(prepared, ExecStage::kUser);
  ::execve(plan.path.c_str(), prepared.arguments.data(), prepared.environment.data());
  give_up(prepared, ExecStage::kExec);
}

[[noreturn]] void detach_child(Prepared &prepared) noexcept {
  const pid_t self = ::getpid();
  const pid_t pid = ::fork();
  if (pid < 0)
    give_up(prepared, ExecStage::kFork);
  if (pid == 0)
    run_child(prepared, self);
  send_report(prepared.report, Report{pid, ExecStage::kNone, 0});
  ::_exit(0);
}

std::vector<char *> pointers(const std::vector<std::string> &strings) {
  std::vector<char *> result;
  result.reserve(strings.size() + 1);
  for (const std::string &each : strings)
    result.push_back(const_cast<char *>(each.c_str())); // NOLINT(cppcoreguidelines-pro-type-const-cast): execve's type
  result.push_back(nullptr);
  return result;
}

ssize_t read_report(int fd, Report &report) {
  ssize_t got = 0;
  do
    got = ::read(fd, &report, sizeof report);
  while (got < 0 && errno == EINTR);
  return got;
}

} // namespace

const char *stage_text(ExecStage stage) {
  switch (stage) {
  case ExecStage::kNone:
    return "ok";
  case ExecStage::kFork:
    return "cannot fork";
  case ExecStage::kFds:
    return "cannot set up file descriptors";
  case ExecStage::kLimits:
    return "cannot set resource limits (rlimit_files, rlimit_core)";
  case ExecStage::kPriority:
    return "cannot set process.priority";
  case ExecStage::kChroot:
    return "cannot chroot";
  case ExecStage::kChdir:
    return "cannot change to its directory (chdir)";
  case ExecStage::kExec:
    return "cannot execute";
  case ExecStage::kAppArmor:
    return "cannot set the AppArmor profile of apparmor_hat for";
  case ExecStage::kUser:
    return "cannot become the user for";
  }
  return "unknown stage";
}

ExecResult child_exec(const ExecPlan &plan) {
  int pipe_fds[2];
  if (::pipe2(pipe_fds, O_CLOEXEC) != 0)
    return {-1, ExecStage::kFds, errno};
  const Fd reader(pipe_fds[0]);
  Fd writer(pipe_fds[1]);
  Prepared prepared{&plan, pointers(plan.arguments), pointers(plan.environment), std::vector<int>(plan.fds.size()),
                    writer.get()};
  // Until the child has reset its handlers no signal of ours may run in it.
  sigset_t all;
  sigset_t before;
  ::sigfillset(&all);
  (void)::sigprocmask(SIG_SETMASK, &all, &before);
  const pid_t child = ::fork();
  if (child == 0) {
    if (plan.detach)
      detach_child(prepared);
    run_child(prepared, 0);
  }
  const int fork_error = errno;
  (void)::sigprocmask(SIG_SETMASK, &before, nullptr);
  if (child < 0)
    return {-1, ExecStage::kFork, fork_error};
  writer.reset();
  ExecResult result{child, ExecStage::kNone, 0};
  Report report{};
  while (read_report(reader.get(), report) == static_cast<ssize_t>(sizeof report)) {
    if (report.pid > 0 && result.stage == ExecStage::kNone)
      result.pid = report.pid;
    else if (report.pid < 0)
      result = {-1, report.stage, report.error};
  }
  if (plan.detach || result.pid < 0)
    (void)wait_for(child);
  return result;
}

} // namespace tqfpm::sys
