#include "spawner/spawner.h"

#include <fcntl.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstddef>
#include <cstring>

#include "spawner/find_script.h"
#include "spawner/read_worker.h"
#include "sys/child_exec.h"
#include "sys/log.h"
#include "sys/paths.h"
#include "sys/shared_memory.h"
#include "sys/socket.h"

namespace tqfpm::spawner {

namespace {

using ipc::SpawnKind;

template <std::size_t N> void put(char (&field)[N], const std::string &text, bool &fits) {
  fits = fits && text.size() < N;
  memcpy(field, text.data(), std::min(text.size(), N - 1));
}

// For template and exec'ed worker alike. False: something is too long for it, which must not be cut.
bool make_setup(const SpawnerPlan &plan, pid_t dispatcher, const PhpCommand &command, ipc::WorkerSetup &setup) {
  bool fits = true;
  setup.size = sizeof setup;
  setup.dispatcher = dispatcher;
  setup.tracer = ::getpid();
  setup.dumpable = plan.dumpable ? 1 : 0;
  setup.subreaper = plan.subreaper ? 1 : 0;
  setup.own_scan_dir = command.own_scan_dir ? 1 : 0;
  put(setup.chroot, plan.chroot, fits);
  put(setup.chdir, plan.chdir, fits);
  put(setup.apparmor, plan.apparmor, fits);
  put(setup.apparmor_folder, plan.apparmor_folder, fits);
  bool titles = true; // ps may show a part of them
  put(setup.worker_title, "php-cgi: pool " + plan.pool, titles);
  put(setup.template_title, "php-cgi: template " + plan.pool, titles);
  return fits;
}

// The preload library. An LD_PRELOAD of the operator's stays in force behind ours. The library is loaded through its
// descriptor, so that the pool's user needs no access to the folder and the folder may have any name. False: that of
// the operator's is too long.
bool preload_library(std::vector<std::string> &environment, ipc::WorkerSetup &setup) {
  std::string others;
  constexpr std::string_view kPreload = "LD_PRELOAD=";
  std::erase_if(environment, [&](const std::string &entry) {
    if (!entry.starts_with(kPreload))
      return false;
    others += (others.empty() ? "" : ":") + entry.substr(kPreload.size());
    return true;
  });
  bool fits = true;
  put(setup.preload, others, fits);
  environment.push_back(std::string(kPreload) + "/proc/self/fd/" + std::to_string(ipc::kTemplateLibraryFd) +
                        (others.empty() ? "" : ":" + others));
  environment.push_back(std::string(ipc::kEnvControlFd) + "=" + std::to_string(ipc::kTemplateControlFd));
  return fits;
}

// php-cgi speaks FastCGI when fd 0 is a listening socket. The template's is never connected to: it is shut down, so
// that whoever finds its name is refused, and accept() in a process that a script has forked finds nothing.
Result<sys::Fd> dummy_listener() {
  sys::Fd fd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  const sa_family_t family = AF_UNIX; // autobind
  if (!fd.valid() || ::bind(fd.get(), reinterpret_cast<const sockaddr *>(&family), sizeof family) != 0 ||
      ::listen(fd.get(), 0) != 0 || ::shutdown(fd.get(), SHUT_RD) != 0)
    return Error{std::string("cannot create the template's socket: ") + strerror(errno), errno};
  return fd;
}

// Descriptors of a template; `made` are those that live until it is exec'ed.
sys::ExecResult plan_template(const SpawnerPlan &plan, const std::vector<sys::Fd> &fds, ipc::WorkerSetup &setup,
                              sys::ExecPlan &exec, std::vector<sys::Fd> &made) {
  auto dummy = dummy_listener();
  if (!dummy.ok())
    return {-1, sys::ExecStage::kFds, dummy.error().code};
  if (!preload_library(exec.environment, setup))
    return {-1, sys::ExecStage::kExec, ENAMETOOLONG};
  auto file = sys::sealed_text("tqfpm-setup", std::string_view(reinterpret_cast<const char *>(&setup), sizeof setup));
  if (!file.ok())
    return {-1, sys::ExecStage::kFds, file.error().code};
  exec.fds = {{dummy.value().get(), 0},
              {fds[1].get(), 1},
              {fds[2].get(), 2},
              {fds[0].get(), ipc::kTemplateControlFd},
              {plan.library.get(), ipc::kTemplateLibraryFd},
              {file.value().get(), ipc::kTemplateSetupFd}};
  made.push_back(std::move(dummy.value()));
  made.push_back(std::move(file.value()));
  return {};
}

void plan_worker(const std::vector<sys::Fd> &fds, const ipc::WorkerSetup &setup, sys::ExecPlan &exec) {
  const std::string profile = setup.apparmor;
  exec.fds = {{fds[0].get(), 0}, {fds[1].get(), 1}, {fds[2].get(), 2}};
  exec.chroot = setup.chroot;
  exec.directory = setup.chdir;
  exec.apparmor = profile.empty() ? "" : "exec " + profile;
  exec.apparmor_file = std::string(setup.apparmor_folder) + "/exec";
  exec.subreaper = setup.subreaper != 0;
  exec.death_signal = SIGTERM; // php-cgi finishes its request and ends
  exec.tracer = setup.tracer;
}

sys::ExecResult start_php(const SpawnerPlan &plan, pid_t dispatcher, SpawnKind kind, const std::vector<sys::Fd> &fds) {
  const auto command = plan.command(kind, fds.size() > 3 ? std::optional<int>(fds[3].get()) : std::nullopt);
  if (!command.ok()) {
    sys::log().error("[pool {}] spawner: settings of a web server: {}", plan.pool, command.error().message);
    return {-1, sys::ExecStage::kExec, EINVAL};
  }
  sys::ExecPlan exec;
  exec.path = command.value().path;
  exec.arguments = command.value().arguments;
  exec.environment = command.value().environment;
  exec.limit_files = plan.limit_files;
  exec.limit_core = plan.limit_core;
  exec.detach = true;
  ipc::WorkerSetup setup{};
  if (!make_setup(plan, dispatcher, command.value(), setup))
    return {-1, sys::ExecStage::kExec, ENAMETOOLONG};
  std::vector<sys::Fd> made;
  if (kind == SpawnKind::kWorker)
    plan_worker(fds, setup, exec);
  else if (const sys::ExecResult failure = plan_template(plan, fds, setup, exec, made);
           failure.stage != sys::ExecStage::kNone)
    return failure;
  return sys::child_exec(exec);
}

// Without root this fails; the start of php-cgi then says that the limit cannot be had.
void raise_hard_limit(__rlimit_resource_t which, const std::optional<std::uint64_t> &wanted) {
  rlimit limit{};
  if (!wanted || ::getrlimit(which, &limit) != 0 || limit.rlim_max >= *wanted)
    return;
  limit.rlim_max = *wanted;
  (void)::setrlimit(which, &limit);
}

Status drop(const SpawnerPlan &plan) {
  if (plan.files)
    (void)::setrlimit(RLIMIT_NOFILE, &*plan.files);
  raise_hard_limit(RLIMIT_NOFILE, plan.limit_files);
  raise_hard_limit(RLIMIT_CORE, plan.limit_core);
  if (plan.priority && ::setpriority(PRIO_PROCESS, 0, *plan.priority) != 0)
    return Error{std::string("cannot set process.priority: ") + strerror(errno), errno};
  if (!plan.user)
    return success();
  return sys::become(*plan.user, plan.chroot.empty() ? sys::Keep::kNothing : sys::Keep::kChroot);
}

// False: the answer cannot be sent.
bool serve(const SpawnerPlan &plan, pid_t dispatcher, int control, const ipc::SpawnerRequest &request,
           const std::vector<sys::Fd> &fds) {
  if (request.kind == SpawnKind::kTrace) {
    static ipc::TraceReply reply;
    trace_worker(request, reply);
    return sys::send_packet(control, &reply, offsetof(ipc::TraceReply, text) + reply.length, {});
  }
  ipc::SpawnerReply reply{request.kind, request.id, request.pid, 0, 0, 0};
  if (request.kind == SpawnKind::kWeigh) {
    reply.memory = weigh_worker(request.pid);
  } else {
    const sys::ExecResult result = start_php(plan, dispatcher, request.kind, fds);
    reply.pid = result.pid;
    reply.stage = static_cast<std::int32_t>(result.stage);
    reply.errno_ = result.error;
  }
  return sys::send_packet(control, &reply, sizeof reply, {});
}

bool is_look(const ipc::LookRequest &request, const sys::Packet &packet) {
  return request.kind == SpawnKind::kLook && packet.fds.empty() && request.length <= sizeof request.path &&
         packet.length == static_cast<ssize_t>(offsetof(ipc::LookRequest, path) + request.length);
}

bool serve_look(const SpawnerPlan &plan, int control, const ipc::LookRequest &request) {
  ipc::SpawnerReply reply{request.kind, request.id, 0, 0, 0, 0};
  reply.memory = look_for_script(std::string(request.path, request.length), plan.chroot);
  return sys::send_packet(control, &reply, sizeof reply, {});
}

[[noreturn]] void run_spawner(const SpawnerPlan &plan, pid_t dispatcher, int control) {
  sys::set_title("tqfpm: spawner " + plan.pool);
  if (auto status = drop(plan); !status.ok()) {
    sys::log().error("[pool {}] spawner: {}", plan.pool, status.error().message);
    sys::log().sink().finish(seconds(1));
    ::_exit(1);
  }
  (void)::prctl(PR_SET_PDEATHSIG, SIGKILL); // after the change of user, which clears it
  if (::getppid() != dispatcher)
    ::_exit(0);
  while (true) {
    ipc::LookRequest buffer{};
    ipc::SpawnerRequest request{};
    const sys::Packet packet = sys::receive_packet(control, &buffer, sizeof buffer);
    if (packet.length == 0)
      ::_exit(0);
    if (is_look(buffer, packet)) {
      if (!serve_look(plan, control, buffer))
        ::_exit(0);
      continue;
    }
    memcpy(&request, &buffer, sizeof request);
    const bool starts = ipc::is_order(request.kind);
    const std::size_t least = starts ? 3 : 0;
    const std::size_t most = starts ? 4 : 0; // settings may come with it
    if (packet.length != static_cast<ssize_t>(sizeof request) || packet.truncated || packet.fds.size() < least ||
        packet.fds.size() > most) {
      sys::log().error("[pool {}] spawner: bad request ({} bytes, {} descriptors)", plan.pool, packet.length,
                       packet.fds.size());
      ::_exit(1);
    }
    if (!serve(plan, dispatcher, control, request, packet.fds))
      ::_exit(0);
  }
}

} // namespace

Result<SpawnerProcess> fork_spawner(const SpawnerPlan &plan) {
  auto pair = sys::packet_pair();
  if (!pair.ok())
    return pair.error();
  const pid_t dispatcher = ::getpid();
  // In the child no signal may reach a handler of the dispatcher's: there is none yet, defaults are right.
  const pid_t pid = ::fork();
  if (pid < 0)
    return Error{std::string("cannot fork the spawner: ") + strerror(errno), errno};
  if (pid == 0) {
    const sys::Fd control(pair.value().theirs.release());
    pair.value().ours.reset();
    // What the dispatcher holds is not the spawner's business.
    for (int fd = ipc::kControlFd; fd <= ipc::kLastDispatcherFd; ++fd) {
      if (fd != ipc::kErrorLogFd && fd != control.get())
        ::close(fd);
    }
    run_spawner(plan, dispatcher, control.get());
  }
  return SpawnerProcess{pid, std::move(pair.value().ours)};
}

} // namespace tqfpm::spawner
