#include "workers/exec_launcher.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <cstring>

#include "fcgi/params.h"
#include "fcgi/writer.h"
#include "sys/log.h"
#include "sys/socket.h"

namespace tqfpm::workers {

namespace {

// A listening socket with a name nobody can use but the holder of the O_PATH descriptor: file and folder are removed
// before php-cgi starts.
struct HiddenListener {
  sys::Fd listener;
  sys::Fd path;
};
Result<HiddenListener> hidden_listener() {
  char folder[] = "/tmp/tqfpm-XXXXXX";
  if (::mkdtemp(folder) == nullptr)
    return Error{std::string("cannot create a folder in /tmp: ") + strerror(errno), errno};
  const std::string name = std::string(folder) + "/worker";
  const auto address = sys::UnixAddress::of(name);
  HiddenListener result{sys::Fd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0)), sys::Fd()};
  const bool ok = result.listener.valid() && address &&
                  ::bind(result.listener.get(), address->get(), address->size()) == 0 &&
                  ::listen(result.listener.get(), 8) == 0;
  if (ok)
    result.path = sys::Fd(::open(name.c_str(), O_PATH | O_CLOEXEC));
  const int code = errno;
  ::unlink(name.c_str());
  ::rmdir(folder);
  if (!ok || !result.path.valid())
    return Error{std::string("cannot create a worker's socket: ") + strerror(code), code};
  return result;
}

} // namespace

std::string probe_record() {
  std::string content;
  fcgi::append_pair(content, "FCGI_MPXS_CONNS", "");
  std::string record;
  fcgi::append_header(record, fcgi::RecordType::kGetValues, 0, content.size());
  return record + content;
}

Status ExecLauncher::start(Worker &worker, pool::VariantNumber variant, int out, int err) {
  auto hidden = hidden_listener();
  if (!hidden.ok())
    return hidden.error();
  const sys::Fd &settings = variants_.settings(variant);
  const int fds[] = {hidden.value().listener.get(), out, err, settings.get()};
  worker.socket_path = std::move(hidden.value().path);
  children_.expect();
  ipc::SpawnerRequest request{};
  request.kind = ipc::SpawnKind::kWorker;
  // As long as it takes: whenever the process comes somebody has to know it.
  spawner_.ask(
      request, std::span(fds).first(settings.valid() ? 4 : 3),
      [this, id = worker.id](const SpawnerAnswer &answer) { answered(id, answer); }, Duration::max());
  return success();
}

void ExecLauncher::answered(pool::WorkerId id, const SpawnerAnswer &answer) {
  const int pid = answer.ok() ? answer.reply.pid : -1;
  const Children::Claim claim = children_.told(pid);
  const Worker *worker = roster_.find(id);
  if (worker == nullptr || roster_.state(*worker) != pool::WorkerState::kStarting) { // given up long ago
    if (claim.ours && !claim.status)
      (void)children_.system().kill(pid, SIGKILL);
    return;
  }
  LaunchTold told;
  told.worker = id;
  told.pid = pid;
  if (claim.status) {
    told.what = LaunchTold::What::kEnded;
    told.status = *claim.status;
  } else if (claim.ours) {
    told.what = LaunchTold::What::kStarted;
    children_.add_worker(pid, id);
  } else {
    told.text = !answer.ok() ? answer.why
                : pid > 0    ? "the spawner has told a wrong pid"
                             : spawn_failure(answer.reply, pool_.php_binary);
  }
  told_.push_back(std::move(told));
}

bool ExecLauncher::next(LaunchTold &told) {
  while (!told_.empty()) {
    told = std::move(told_.front());
    told_.pop_front();
    if (roster_.find(told.worker) != nullptr)
      return true;
  }
  return false;
}

Launcher::Tried ExecLauncher::connect(Worker &worker) {
  sys::Fd fd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!fd.valid())
    return sys::is_shortage(errno) ? Tried::kLater : Tried::kGone;
  sys::refuse_descriptors(fd.get());
  // The socket has no name any more; the kernel follows the descriptor to it.
  const auto address = sys::UnixAddress::of(fmt::format("/proc/self/fd/{}", worker.socket_path.get()));
  if (!address || ::connect(fd.get(), address->get(), address->size()) != 0) {
    const int code = errno;
    if (sys::is_shortage(code))
      return Tried::kLater;
    sys::log().warning("[pool {}] cannot connect to child {}: {}", pool_.name, worker.pid, strerror(code));
    return Tried::kGone;
  }
  worker.connection.open(loop_, std::move(fd), [this, id = worker.id] { roster_.note(id); });
  return Tried::kDone;
}

void ExecLauncher::end(Worker &worker) {
  if (worker.pid > 0 && !children_.system().kill(worker.pid, SIGTERM))
    sys::log().warning("[pool {}] cannot send SIGTERM to child {}: {}", pool_.name, worker.pid, strerror(errno));
}

} // namespace tqfpm::workers
