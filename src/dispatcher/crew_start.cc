// The crew's other half: how the template and workers come up.
#include <fcntl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <utility>

#include "dispatcher/crew.h"
#include "fcgi/params.h"
#include "fcgi/writer.h"
#include "sys/child_exec.h"
#include "sys/log.h"
#include "sys/proc_info.h"
#include "sys/shared_memory.h"
#include "sys/socket.h"

namespace tqfpm::dispatcher {

using pool::WorkerId;
using pool::WorkerState;
using status::Metric;

namespace {

const char *stage_name(ipc::WorkerStage stage) {
  switch (stage) {
  case ipc::WorkerStage::kChroot:
    return "cannot chroot";
  case ipc::WorkerStage::kChdir:
    return "cannot change to its directory";
  case ipc::WorkerStage::kCapabilities:
    return "cannot drop capabilities";
  case ipc::WorkerStage::kParent:
    return "was not adopted by the dispatcher";
  case ipc::WorkerStage::kFds:
    return "did not get its descriptors";
  case ipc::WorkerStage::kAppArmor:
    return "cannot change to the AppArmor profile of apparmor_hat, see the kernel's log; its profile must allow "
           "change_profile to it";
  case ipc::WorkerStage::kNone:
    break;
  }
  return "failed";
}

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
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  const std::string name = std::string(folder) + "/worker";
  memcpy(address.sun_path, name.c_str(), name.size() + 1);
  HiddenListener result{sys::Fd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0)), sys::Fd()};
  const bool ok = result.listener.valid() &&
                  ::bind(result.listener.get(), reinterpret_cast<const sockaddr *>(&address), sizeof address) == 0 &&
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

// --- the spawner's answers
// -------------------------------------------------------------------------------------------------------

// What is left of log_limit, which is the length of a whole line, beside time, level and the line's own words.
std::size_t Crew::room_beside(std::size_t words) const {
  const std::size_t used = sys::log().overhead() + words;
  return used < log_limit_ ? log_limit_ - used : 1;
}

void Crew::spawner_replied(const ipc::SpawnerReply &reply) {
  if (reply.kind == ipc::SpawnKind::kWeigh) {
    weighed(reply);
    return;
  }
  if (reply.kind == ipc::SpawnKind::kLook) {
    owner_.looked(reply);
    return;
  }
  const auto found = orders_.find(reply.id);
  if (found == orders_.end())
    return;
  const Order order = found->second;
  orders_.erase(found);
  const std::string why = reply.pid > 0
                              ? ""
                              : fmt::format("{} {}: {}", sys::stage_text(static_cast<sys::ExecStage>(reply.stage)),
                                            pool_.php_binary, strerror(reply.errno_));
  if (order.worker)
    worker_answered(*order.worker, reply, why);
  else
    template_answered(order.variant, reply, why);
  if (orders_.empty())
    early_ends_.clear();
}

void Crew::template_answered(pool::VariantNumber number, const ipc::SpawnerReply &reply, const std::string &why) {
  const auto end = take_early_end(reply.pid);
  Variant *variant = number < variants_.size() ? variants_[number].get() : nullptr;
  if (reply.pid > 0 && !end && !is_new_child(reply.pid)) {
    if (variant != nullptr)
      (void)variant->answered(reply.id, -1, "the spawner has told a wrong pid");
    return;
  }
  if (reply.pid > 0 && !end)
    templates_.insert(reply.pid);
  if (variant != nullptr && variant->answered(reply.id, reply.pid, why) && end)
    variant->ended(end_text(*end));
}

// Template, spawner and workers are processes of the scripts' user: a pid that they tell is believed if it is a child
// of ours that is not known as another one. We have the right to signal anybody.
bool Crew::is_new_child(int pid) const {
  return pid > 0 && !by_pid_.contains(pid) && !templates_.contains(pid) && pid != spawner_.pid && sys::is_child(pid);
}

std::optional<int> Crew::take_early_end(int pid) {
  const auto found = early_ends_.find(pid);
  if (found == early_ends_.end())
    return std::nullopt;
  const int status = found->second;
  early_ends_.erase(found);
  return status;
}

void Crew::worker_answered(WorkerId id, const ipc::SpawnerReply &reply, const std::string &why) {
  const auto end = take_early_end(reply.pid);
  const bool ours = end || is_new_child(reply.pid);
  Backend *backend = find(id);
  if (backend == nullptr) { // given up long ago
    if (!end && ours)
      (void)::kill(reply.pid, SIGKILL);
    return;
  }
  if (reply.pid > 0 && !ours) {
    start_failed(*backend, "the spawner has told a wrong pid");
    return;
  }
  if (reply.pid <= 0) {
    if (!ready_)
      owner_.crew_failed(why);
    start_failed(*backend, why);
    return;
  }
  backend->pid = reply.pid;
  by_pid_[reply.pid] = id;
  if (end)
    worker_ended(*backend, *end);
  else
    probe(*backend);
}

void Crew::spawner_ended(const std::string &how) {
  sys::log().warning("[pool {}] the spawner {}", pool_.name, how);
  spawner_.pid = -1;
  orders_.clear(); // their workers count as not started in time
  early_ends_.clear();
  slow_log_.spawner_gone();
  owner_.spawner_lost();
  if (!ready_)
    owner_.crew_failed("the spawner " + how + "; see the messages above");
  else if (!draining_)
    owner_.crew_worn_out();
}

// --- workers --------------------------------------------------------------------------------------------------------

std::optional<Crew::Outputs> Crew::make_outputs(Backend &backend) {
  if (!pool_.catch_workers_output) {
    Outputs outputs{sys::Fd(::open("/dev/null", O_WRONLY | O_CLOEXEC)),
                    sys::Fd(::open("/dev/null", O_WRONLY | O_CLOEXEC))};
    return outputs.err.valid() ? std::optional(std::move(outputs)) : std::nullopt;
  }
  auto out = sys::output_pipe();
  auto err = sys::output_pipe();
  if (!out.ok() || !err.ok())
    return std::nullopt;
  backend.output = make_output(std::move(out.value().ours), backend.id(), "stdout");
  backend.errors = make_output(std::move(err.value().ours), backend.id(), "stderr");
  return Outputs{std::move(out.value().theirs), std::move(err.value().theirs)};
}

std::unique_ptr<WorkerOutput> Crew::make_output(sys::Fd pipe, WorkerId id, const char *stream) {
  const auto pid = [this, id] {
    const Backend *backend = find(id);
    return backend != nullptr ? std::max(backend->pid, 0) : 0;
  };
  return std::make_unique<WorkerOutput>(
      loop_, std::move(pipe), log_buffering_,
      [this, pid, stream] {
        return sys::log().room(log_limit_, pool_.decorate_workers_output, pool_.name, pid(), stream);
      },
      [this, pid, stream](const std::string &line) {
        if (pool_.decorate_workers_output)
          sys::log().said(pool_.name, pid(), stream, line);
        else
          sys::log().plain(pool_.name, pid(), stream, line);
      });
}

bool Crew::start_worker(pool::VariantNumber number) {
  Variant &variant = *variants_[number];
  if (fork_mode_ && !variant.ready()) {
    if (!variant.coming() && make_room_for_template())
      variant.start();
    return true; // the template's READY decides again
  }
  if (!processes_.take(holder_, process_max_))
    return false;
  const auto id = table_.start(Clock::now(), number);
  if (!id) {
    processes_.give(holder_);
    return false;
  }
  backends_[id->index] = std::make_unique<Backend>(loop_, static_cast<BackendOwner &>(*this), *id, Clock::now());
  Backend &backend = *backends_[id->index];
  backend.limit = recycling_.limit();
  arm_deadline(Clock::now() + kStartPatience);
  const auto outputs = make_outputs(backend);
  if (!outputs) {
    start_failed(backend, std::string("no descriptors for its output: ") + strerror(errno));
    return false;
  }
  const Status status = fork_mode_ ? start_forked(backend, outputs->out.get(), outputs->err.get())
                                   : start_execed(backend, outputs->out.get(), outputs->err.get());
  if (!status.ok())
    start_failed(backend, status.error().message);
  return status.ok();
}

Status Crew::start_forked(Backend &backend, int out, int err) {
  auto channel = sys::packet_pair();
  if (!channel.ok())
    return channel.error();
  const WorkerId id = backend.id();
  const int fds[] = {channel.value().theirs.get(), out, err};
  Variant &variant = variant_of(backend);
  if (auto status = variant.spawn(id, fds); !status.ok())
    return status;
  backend.batch = variant.batch();
  backend.channel = std::move(channel.value().ours);
  backend.channel_watch =
      std::make_unique<sys::IoWatch>(loop_, backend.channel.get(), [this, id](unsigned) { channel_readable(id); });
  backend.channel_watch->set(sys::kReadable);
  return success();
}

Status Crew::start_execed(Backend &backend, int out, int err) {
  auto hidden = hidden_listener();
  if (!hidden.ok())
    return hidden.error();
  const sys::Fd &settings = variant_of(backend).settings();
  const int fds[] = {hidden.value().listener.get(), out, err, settings.get()};
  const std::uint32_t order = next_order_++;
  if (!link_->send(ipc::SpawnKind::kWorker, order, std::span(fds).first(settings.valid() ? 4 : 3)))
    return Error{std::string("the spawner does not take orders: ") + strerror(errno), errno};
  backend.socket_path = std::move(hidden.value().path);
  orders_[order] = Order{backend.id(), 0};
  return success();
}

void Crew::start_failed(Backend &backend, const std::string &why) {
  sys::log().error("[pool {}] cannot start a worker: {}", pool_.name, why);
  manager_.start_failed(Clock::now());
  if (fork_mode_)
    be_ready();
  if (backend.channel_watch != nullptr)
    backend.channel_watch->set(0);
  retire(backend.id());
  if (!ready_ && !fork_mode_)
    owner_.crew_failed(why);
  owner_.crew_changed();
}

void Crew::channel_readable(WorkerId id) {
  while (Backend *backend = find(id)) {
    if (!backend->channel.valid())
      return;
    ipc::WorkerReport report{};
    const sys::Packet packet = sys::receive_packet(backend->channel.get(), &report, sizeof report);
    if (packet.length < 0 && errno == EAGAIN)
      return;
    if (packet.length != static_cast<ssize_t>(sizeof report)) {
      backend->channel_watch->set(0);
      if (backend->pid < 0) // it has gone before HELLO: nobody will ever tell its pid
        start_failed(*backend, "it ended before it was up");
      return;
    }
    worker_said(*backend, report);
  }
}

void Crew::worker_said(Backend &backend, const ipc::WorkerReport &report) {
  switch (report.type) {
  case ipc::WorkerReportType::kHello:
    if (backend.pid < 0 && is_new_child(report.pid)) {
      backend.pid = report.pid;
      by_pid_[report.pid] = backend.id();
    }
    return;
  case ipc::WorkerReportType::kFailed:
    sys::log().error("[pool {}] worker {}: {}", pool_.name, stage_name(report.stage), strerror(report.errno_));
    return;
  case ipc::WorkerReportType::kStatus:
    send_status(backend);
    return;
  case ipc::WorkerReportType::kAccepting:
    break;
  }
  if (table_.state(backend.id()) == WorkerState::kStopping)
    return;
  backend.drain();
  if (Request *request = backend.request()) { // it came back without having answered
    backend.abandon();
    owner_.request_lost(*request, kClosed);
  }
  offer_connection(backend);
}

// Without an answer the script would wait for ever.
void Crew::send_status(Backend &backend) {
  auto file = sys::sealed_text("tqfpm-status", owner_.status_for_worker());
  const auto message = ipc::ChannelMessage::kStatus;
  const int fds[] = {file.ok() ? file.value().get() : -1};
  if (!sys::send_packet(backend.channel.get(), &message, sizeof message,
                        file.ok() ? std::span<const int>(fds) : std::span<const int>()))
    sys::log().warning("[pool {}] cannot answer fpm_get_status() of child {}: {}", pool_.name, backend.pid,
                       strerror(errno));
}

void Crew::offer_connection(Backend &backend) {
  backend.disconnect();
  auto pair = sys::stream_pair();
  const auto message = ipc::ChannelMessage::kConnection;
  const int fds[] = {pair.ok() ? pair.value().theirs.get() : -1};
  if (!pair.ok() || !sys::send_packet(backend.channel.get(), &message, sizeof message, fds)) {
    sys::log().warning("[pool {}] no connection for child {}: {}; ending it", pool_.name, backend.pid,
                       pair.ok() ? strerror(errno) : pair.error().message.c_str());
    stop_worker(backend, Metric::ended_killed);
    return;
  }
  backend.connect(std::move(pair.value().ours));
  now_idle(backend);
}

// --- php.spawn = exec -----------------------------------------------------------------------------------------------

bool Crew::dial(Backend &backend) {
  sys::Fd fd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  // The socket has no name any more; the kernel follows the descriptor to it.
  fmt::format_to_n(address.sun_path, sizeof address.sun_path - 1, "/proc/self/fd/{}", backend.socket_path.get());
  if (!fd.valid() || ::connect(fd.get(), reinterpret_cast<const sockaddr *>(&address), sizeof address) != 0) {
    sys::log().warning("[pool {}] cannot connect to child {}: {}", pool_.name, backend.pid, strerror(errno));
    kill_worker(backend, Metric::ended_killed);
    return false;
  }
  backend.connect(std::move(fd));
  return true;
}

// Asks php-cgi something that it answers only from its accept loop: then it is free.
void Crew::probe(Backend &backend) {
  if (!dial(backend))
    return;
  std::string content;
  fcgi::append_pair(content, "FCGI_MPXS_CONNS", "");
  std::string record;
  fcgi::append_header(record, fcgi::RecordType::kGetValues, 0, content.size());
  backend.probe(record + content);
}

} // namespace tqfpm::dispatcher
