// libtqfpm-template.so: makes an unmodified php-cgi a fork server.
//
// php-cgi initialises completely and calls accept() on fd 0. Here that call does not accept: in the template it serves
// fork requests of the dispatcher, and returns only in the forked workers, each time with a connection that the
// dispatcher has sent. The contract is ipc/control.h.
//
// libc alone: this is loaded into foreign builds of PHP. No allocation, no C++ library, no symbol newer than
// glibc 2.14.

#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "ipc/control.h"
#include "preload/template.h"

// A call of memcpy would bind to GLIBC_2.14 on amd64, which is allowed; nothing newer is used.

// Every php-cgi has it, a shell script that starts one has it not. Weak: null where it is absent.
extern "C" __attribute__((weak)) int php_request_startup(void);
// Directives of php.ini as they are written, and PHP's version (since 8.3).
extern "C" __attribute__((weak)) int cfg_get_string(const char *name, char **value);
extern "C" __attribute__((weak)) unsigned int php_version_id(void);

namespace tqfpm::preload {

State state;

} // namespace tqfpm::preload

namespace {

using namespace tqfpm::ipc;
using namespace tqfpm::preload;

// ${...} in php.ini means a directive that has been set before, or else a variable of the environment: that is how the
// default is told from "off" (see spawner/php_command.cc).
constexpr char kFixPathInfoName[] = "cgi.fix_pathinfo";

void close_all(const int *fds, size_t count) {
  for (size_t i = 0; i < count; ++i) {
    if (fds[i] >= 0)
      close(fds[i]);
  }
}

const char *directive(const char *name) {
  char *value = nullptr;
  if (&cfg_get_string == nullptr || cfg_get_string(name, &value) != 0 || value == nullptr)
    return "";
  return value;
}

// As PHP reads a boolean.
bool is_on(const char *value) {
  if (strcasecmp(value, "on") == 0 || strcasecmp(value, "yes") == 0 || strcasecmp(value, "true") == 0)
    return true;
  while (*value == ' ' || *value == '+' || *value == '-' || *value == '0')
    ++value;
  return *value >= '1' && *value <= '9';
}

PhpFacts php_facts() {
  PhpFacts facts = {0, 0};
  if (&cfg_get_string == nullptr)
    facts.flags = kFixPathInfo; // the default
  if (&php_version_id != nullptr)
    facts.version = php_version_id();
  facts.flags |= is_on(directive("tqfpm.fix_pathinfo")) ? static_cast<uint32_t>(kFixPathInfo) : 0;
  facts.flags |= is_on(directive("tqfpm.discard_path")) ? static_cast<uint32_t>(kDiscardPath) : 0;
  facts.flags |= directive("doc_root")[0] != 0 ? static_cast<uint32_t>(kDocRoot) : 0;
  facts.flags |= directive("user_dir")[0] != 0 ? static_cast<uint32_t>(kUserDir) : 0;
  return facts;
}

// To the dispatcher, from the template.
bool reply(TemplateReplyType type, uint32_t slot, uint32_t generation, int error) {
  TemplateReply message;
  memset(&message, 0, sizeof message);
  message.type = type;
  message.slot = slot;
  message.generation = generation;
  message.errno_ = error;
  message.pid = getpid();
  if (type == TemplateReplyType::kReady)
    message.facts = php_facts();
  return send_all(state.control, &message, sizeof message);
}

// --- environment and title -----------------------------------------------------------------------------------------

int take_number(const char *name) {
  const char *value = getenv(name);
  if (value == nullptr)
    return -1;
  int number = 0;
  for (; *value >= '0' && *value <= '9' && number < 100000000; ++value)
    number = number * 10 + (*value - '0');
  unsetenv(name);
  return number;
}

void set_title(const char *title) {
  if (state.title_size < 2)
    return;
  size_t length = strlen(title);
  if (length > state.title_size - 1)
    length = state.title_size - 1;
  memset(state.title_start, 0, state.title_size);
  memcpy(state.title_start, title, length);
}

// What a script runs must find neither our variables nor our library in its environment.
void clean_environment() {
  if (state.setup.preload[0] != 0)
    setenv("LD_PRELOAD", state.setup.preload, 1);
  else
    unsetenv("LD_PRELOAD");
}

// False: it was not made for this library.
bool take_setup() {
  WorkerSetup &setup = state.setup;
  ssize_t got = 0;
  do
    got = pread(kTemplateSetupFd, &setup, sizeof setup, 0);
  while (got < 0 && errno == EINTR);
  close(kTemplateSetupFd);
  if (got != static_cast<ssize_t>(sizeof setup) || setup.size != sizeof setup)
    return false;
  char *const ends[] = {setup.chroot + kPathText,           setup.chdir + kPathText,
                        setup.apparmor + kPathText,         setup.preload + kPathText,
                        setup.apparmor_folder + kTitleText, setup.worker_title + kTitleText,
                        setup.template_title + kTitleText};
  for (char *end : ends)
    end[-1] = 0;
  return true;
}

// glibc hands main()'s arguments to constructors.
__attribute__((constructor)) void begin(int argc, char **argv, char **) {
  if (&php_request_startup == nullptr)
    return; // a wrapper: everything stays as it is for the php-cgi that it runs
  const int control = take_number(kEnvControlFd);
  if (control < 0)
    return;
  state.control = control;
  state.channel = -1;
  state.connection = -1;
  if (!take_setup())
    return;
  clean_environment();
  setenv(kFixPathInfoName, "1", 1); // a shell that starts php-cgi would not have kept it
  (void)fcntl(control, F_SETFD, FD_CLOEXEC);
  close(kTemplateLibraryFd);
  if (argc > 0) {
    state.title_start = argv[0];
    state.title_size = static_cast<size_t>(argv[argc - 1] + strlen(argv[argc - 1]) + 1 - argv[0]);
  }
  state.self = getpid();
  state.mode = Mode::kTemplate;
  (void)reply(TemplateReplyType::kLoaded, 0, 0, 0);
}

// --- a new worker ---------------------------------------------------------------------------------------------------

[[noreturn]] void fail(WorkerStage stage, int error) {
  (void)report(WorkerReportType::kFailed, stage, error);
  _exit(70);
}

// The process between template and worker is about to exit; then the dispatcher, a subreaper, is the parent.
void wait_for_adoption(pid_t between) {
  for (int i = 0; getppid() == between; ++i) {
    if (i < 1000) {
      sched_yield();
      continue;
    }
    const timespec pause = {0, 100000};
    nanosleep(&pause, nullptr);
  }
}

void drop_capabilities() {
  (void)prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0);
  __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, 0};
  __user_cap_data_struct none[_LINUX_CAPABILITY_U32S_3];
  memset(none, 0, sizeof none);
  if (syscall(SYS_capset, &header, none) != 0)
    fail(WorkerStage::kCapabilities, errno);
}

// Before chroot, behind which there is no /proc. The new profile has to allow what follows, as with php-fpm.
int open_apparmor() {
  if (state.setup.apparmor[0] == 0)
    return -1;
  char path[kTitleText + 16];
  const size_t length = strlen(state.setup.apparmor_folder);
  memcpy(path, state.setup.apparmor_folder, length);
  memcpy(path + length, "/current", sizeof "/current");
  const int fd = open(path, O_WRONLY | O_CLOEXEC);
  if (fd < 0)
    fail(WorkerStage::kAppArmor, errno);
  return fd;
}

void change_profile(int fd) {
  if (fd < 0)
    return;
  char order[kPathText + 16] = "changeprofile ";
  const size_t word = strlen(order);
  const size_t length = word + strlen(state.setup.apparmor);
  memcpy(order + word, state.setup.apparmor, length - word);
  const ssize_t written = write(fd, order, length);
  if (written != static_cast<ssize_t>(length))
    fail(WorkerStage::kAppArmor, written < 0 ? errno : EIO);
  close(fd);
}

void enter_directory() {
  if (state.setup.chroot[0] != 0) {
    if (chroot(state.setup.chroot) != 0)
      fail(WorkerStage::kChroot, errno);
    if (chdir(state.setup.chdir[0] != 0 ? state.setup.chdir : "/") != 0)
      fail(WorkerStage::kChdir, errno);
    drop_capabilities();
  } else if (state.setup.chdir[0] != 0 && chdir(state.setup.chdir) != 0) {
    fail(WorkerStage::kChdir, errno);
  }
}

void become_worker(const TemplateRequest &request, const int *fds, pid_t between) {
  state.mode = Mode::kWorker;
  state.self = getpid();
  state.slot = request.slot;
  state.generation = request.generation;
  state.channel = fds[0];
  close(state.control);
  state.control = -1;
  wait_for_adoption(between);
  if (getppid() != state.setup.dispatcher)
    fail(WorkerStage::kParent, 0);
  if (dup2(fds[1], 1) < 0 || dup2(fds[2], 2) < 0)
    fail(WorkerStage::kFds, errno);
  close(fds[1]);
  close(fds[2]);
  const int apparmor = open_apparmor();
  enter_directory();
  change_profile(apparmor);
  // After the credentials, whose change clears it. If the dispatcher dies its workers finish and go.
  (void)prctl(PR_SET_PDEATHSIG, SIGTERM);
  if (getppid() != state.setup.dispatcher)
    fail(WorkerStage::kParent, 0);
  if (state.setup.tracer > 0)
    (void)prctl(PR_SET_PTRACER, static_cast<unsigned long>(state.setup.tracer), 0, 0, 0);
  if (state.setup.dumpable != 0)
    (void)prctl(PR_SET_DUMPABLE, 1, 0, 0, 0);
  if (state.setup.subreaper != 0)
    (void)prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0);
  set_title(state.setup.worker_title);
  (void)report(WorkerReportType::kHello, WorkerStage::kNone, 0);
}

// --- the template ----------------------------------------------------------------------------------------------------

// Forks twice, so that the worker is an orphan. True in the worker.
bool spawn(const TemplateRequest &request, const int *fds) {
  int error = 0;
  int pipe_fds[2] = {-1, -1};
  if (fds[0] < 0 || fds[1] < 0 || fds[2] < 0 || pipe2(pipe_fds, O_CLOEXEC) != 0)
    error = errno != 0 ? errno : EMFILE;
  const pid_t between = error == 0 ? fork() : -1;
  if (between == 0) {
    const pid_t self = getpid();
    const pid_t worker = fork();
    if (worker == 0) {
      close(pipe_fds[0]);
      close(pipe_fds[1]);
      become_worker(request, fds, self);
      return true;
    }
    error = worker < 0 ? errno : 0;
    if (error != 0)
      (void)!write(pipe_fds[1], &error, sizeof error);
    _exit(0);
  }
  if (between < 0 && error == 0)
    error = errno;
  close(pipe_fds[1]);
  if (between > 0) {
    (void)!read(pipe_fds[0], &error, sizeof error);
    while (waitpid(between, nullptr, 0) < 0 && errno == EINTR) {
    }
  }
  close(pipe_fds[0]);
  if (error != 0)
    (void)reply(TemplateReplyType::kSpawnFailed, request.slot, request.generation, error);
  return false;
}

// Serves the dispatcher. Returns 0 in a new worker; in the template -1 with errno when php-cgi is to go on (a signal)
// or to end (the dispatcher has gone).
int serve_template() {
  if (!state.ready_sent) {
    unsetenv("PHP_FCGI_MAX_REQUESTS"); // php-cgi has read it
    unsetenv(kFixPathInfoName);
    if (state.setup.own_scan_dir != 0)
      unsetenv("PHP_INI_SCAN_DIR");
    set_title(state.setup.template_title);
    (void)prctl(PR_SET_DUMPABLE, 0, 0, 0, 0); // scripts, which have its user, can neither read nor stop it by ptrace
    state.ready_sent = true;
    if (!reply(TemplateReplyType::kReady, 0, 0, 0)) {
      errno = EBADF;
      return -1;
    }
  }
  while (true) {
    TemplateRequest request;
    int fds[3];
    const ssize_t got = receive(state.control, &request, sizeof request, fds, 3);
    if (got < 0 && errno == EINTR)
      return -1;
    if (got <= 0) {
      errno = EBADF;
      return -1;
    }
    errno = 0;
    if (got == static_cast<ssize_t>(sizeof request) && request.type == TemplateRequestType::kSpawn &&
        spawn(request, fds))
      return 0;
    close_all(fds, 3);
  }
}

// --- a worker's accept() ------------------------------------------------------------------------------------------

enum class Wait { kConnection, kGone, kClosed, kSignal };

// php-cgi polls a new connection for some seconds only and then drops it: it gets it when there is something to read.
Wait wait_until_readable(int connection) {
  pollfd fds[2] = {{connection, POLLIN, 0}, {state.channel, POLLIN, 0}};
  while (true) {
    if (poll(fds, 2, -1) < 0) {
      if (errno == EINTR)
        return Wait::kSignal;
      return Wait::kClosed;
    }
    if ((fds[0].revents & POLLIN) != 0) {
      char byte = 0;
      if (recv(connection, &byte, 1, MSG_PEEK | MSG_DONTWAIT) > 0)
        return Wait::kConnection;
      return Wait::kGone;
    }
    if ((fds[0].revents & (POLLHUP | POLLERR | POLLNVAL)) != 0)
      return Wait::kGone;
    if (fds[1].revents != 0)
      return Wait::kClosed;
  }
}

// What the scripts before have left and has ended. Nobody else waits for it between two requests.
void reap_descendants() {
  while (waitpid(-1, nullptr, WNOHANG) > 0) {
  }
}

int next_connection() {
  state.connection = -1; // php-cgi has closed it
  state.finished = false;
  while (true) {
    if (state.setup.subreaper != 0)
      reap_descendants();
    if (!report(WorkerReportType::kAccepting, WorkerStage::kNone, 0)) {
      errno = EBADF;
      return -1;
    }
    ChannelMessage message;
    int fd = -1;
    const ssize_t got = receive(state.channel, &message, sizeof message, &fd, 1);
    if (got < 0 && errno == EINTR)
      return -1;
    if (got <= 0 || fd < 0) {
      errno = EBADF;
      return -1;
    }
    const Wait result = wait_until_readable(fd);
    if (result == Wait::kConnection) {
      state.connection = fd;
      return fd;
    }
    close(fd);
    if (result == Wait::kGone)
      continue;
    errno = result == Wait::kSignal ? EINTR : EBADF;
    return -1;
  }
}

// fd 0 is php-cgi's listening socket; every other one belongs to a script, and so does a process that a script forked.
bool is_ours(int fd) {
  return state.mode != Mode::kOff && fd == 0 && state.self == getpid();
}

int our_accept(sockaddr *address, socklen_t *length) {
  if (state.mode == Mode::kTemplate && serve_template() < 0)
    return -1;
  restore_filter();
  const int fd = next_connection();
  if (fd >= 0 && address != nullptr && length != nullptr && *length >= sizeof(sa_family_t)) {
    address->sa_family = AF_UNIX;
    *length = sizeof(sa_family_t);
  }
  return fd;
}

} // namespace

extern "C" {

__attribute__((visibility("default"))) int accept(int fd, sockaddr *address, socklen_t *length) {
  if (is_ours(fd))
    return our_accept(address, length);
  return static_cast<int>(syscall(SYS_accept4, fd, address, length, 0));
}

__attribute__((visibility("default"))) int accept4(int fd, sockaddr *address, socklen_t *length, int flags) {
  if (is_ours(fd))
    return our_accept(address, length);
  return static_cast<int>(syscall(SYS_accept4, fd, address, length, flags));
}

// PHP asks for variables while it starts: then its own functions can still be added to.
__attribute__((visibility("default"))) char *getenv(const char *name) {
  if (state.mode == Mode::kTemplate && !state.ready_sent)
    offer_functions();
  const size_t length = strlen(name);
  if (environ == nullptr || length == 0)
    return nullptr;
  for (char **entry = environ; *entry != nullptr; ++entry) {
    if (strncmp(*entry, name, length) == 0 && (*entry)[length] == '=')
      return *entry + length + 1;
  }
  return nullptr;
}

} // extern "C"
