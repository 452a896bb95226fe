#include "workers/fork_launcher.h"

#include <cerrno>
#include <cstring>

#include "sys/log.h"
#include "sys/shared_memory.h"
#include "sys/socket.h"

namespace tqfpm::workers {

namespace {

using What = LaunchTold::What;

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

bool misbehaved(LaunchTold &told, const char *how) {
  told.what = What::kMisbehaved;
  told.text = how;
  return true;
}

} // namespace

Status ForkLauncher::start(Worker &worker, pool::VariantNumber variant, int out, int err) {
  auto channel = sys::packet_pair();
  if (!channel.ok())
    return channel.error();
  sys::refuse_descriptors(channel.value().ours.get());
  const int fds[] = {channel.value().theirs.get(), out, err};
  if (auto status = variants_.spawn(variant, worker.id, fds); !status.ok())
    return status;
  worker.life.batch = variants_.batch(variant);
  worker.channel.fd = std::move(channel.value().ours);
  worker.channel.watch = std::make_unique<sys::IoWatch>(loop_, worker.channel.fd.get(),
                                                        [this, id = worker.id](unsigned) { noted_.push_back(id); });
  worker.channel.watch->set(sys::kReadable);
  return success();
}

void ForkLauncher::hear_new() {
  for (std::size_t i = 0; i < roster_.slots(); ++i) {
    const Worker *worker = roster_.at(i);
    if (worker != nullptr && worker->pid < 0 && worker->channel.fd.valid())
      noted_.push_back(worker->id);
  }
}

bool ForkLauncher::next(LaunchTold &told) {
  while (next_ < noted_.size()) {
    Worker *worker = roster_.find(noted_[next_]);
    const bool open = worker != nullptr && worker->channel.watch != nullptr && worker->channel.watch->events() != 0;
    if (open && reports_ < kReportsPerTurn) { // what is left over is told again in the next turn
      ++reports_;
      told = LaunchTold{};
      told.worker = worker->id;
      if (read(*worker, told))
        return true;
      continue;
    }
    ++next_;
    reports_ = 0;
  }
  noted_.clear();
  next_ = 0;
  return false;
}

void ForkLauncher::settle() {
  noted_.clear();
  next_ = 0;
  reports_ = 0;
}

// True: there is something to tell.
bool ForkLauncher::read(Worker &worker, LaunchTold &told) {
  ipc::WorkerReport report{};
  const ssize_t got = sys::receive_plain(worker.channel.fd.get(), &report, sizeof report);
  if (got < 0 && errno == EAGAIN) {
    reports_ = kReportsPerTurn;
    return false;
  }
  if (got > 0) {
    if (got == static_cast<ssize_t>(sizeof report))
      return said(worker, report, told);
    return misbehaved(told, "a report of a wrong length");
  }
  worker.channel.watch->set(0); // its end tells the rest
  if (worker.pid >= 0)
    return false;
  told.what = What::kFailed; // it has gone before HELLO: nobody will ever tell its pid
  told.text = "it ended before it was up";
  return true;
}

bool ForkLauncher::said(Worker &worker, const ipc::WorkerReport &report, LaunchTold &told) {
  if (worker.channel.failed)
    return misbehaved(told, "a report after its failure");
  switch (report.type) {
  case ipc::WorkerReportType::kHello:
    return hello(worker, report, told);
  case ipc::WorkerReportType::kFailed:
    worker.channel.failed = true;
    if (worker.pid >= 0)
      return misbehaved(told, "a failure to start when it was up");
    sys::log().error("[pool {}] worker {}: {}", pool_, stage_name(report.stage), strerror(report.errno_));
    return false;
  case ipc::WorkerReportType::kStatus:
    return status(worker, told);
  case ipc::WorkerReportType::kAccepting:
    if (worker.pid < 0)
      return misbehaved(told, "a wish for a connection before its pid");
    told.what = What::kAccepting;
    return true;
  }
  return misbehaved(told, "an unknown report");
}

bool ForkLauncher::hello(Worker &worker, const ipc::WorkerReport &report, LaunchTold &told) {
  if (worker.pid >= 0)
    return misbehaved(told, "its pid again");
  if (!children_.is_new(report.pid)) { // it has been waited for already, or it lies
    worker.channel.watch->set(0);
    told.what = What::kFailed;
    told.text = "it ended before it was up";
    return true;
  }
  children_.add_worker(report.pid, worker.id);
  told.what = What::kStarted;
  told.pid = report.pid;
  return true;
}

// A script that asks again and again must not hold the loop: one answer a turn.
bool ForkLauncher::status(Worker &worker, LaunchTold &told) {
  if (worker.channel.wants_status || !pool::is_occupied(roster_.state(worker)))
    return misbehaved(told, "a wish for the status that no script can have");
  worker.channel.wants_status = true;
  reports_ = kReportsPerTurn;
  told.what = What::kWantsStatus;
  return true;
}

Launcher::Tried ForkLauncher::connect(Worker &worker) {
  auto pair = sys::stream_pair();
  if (!pair.ok())
    return sys::is_shortage(pair.error().code) ? Tried::kLater : Tried::kGone;
  sys::refuse_descriptors(pair.value().ours.get()); // before the other end is anybody's
  const auto message = ipc::ChannelMessage::kConnection;
  const int fds[] = {pair.value().theirs.get()};
  if (!sys::send_packet(worker.channel.fd.get(), &message, sizeof message, fds))
    return sys::is_shortage(errno) ? Tried::kLater : Tried::kGone;
  worker.connection.open(loop_, std::move(pair.value().ours), [this, id = worker.id] { roster_.note(id); });
  return Tried::kDone;
}

// Without an answer the script would wait for ever.
bool ForkLauncher::send_status(Worker &worker, const std::string &text) {
  worker.channel.wants_status = false;
  if (!worker.channel.fd.valid())
    return true;
  auto file = sys::sealed_text("tqfpm-status", text);
  const auto message = ipc::ChannelMessage::kStatus;
  const int fds[] = {file.ok() ? file.value().get() : -1};
  return sys::send_packet(worker.channel.fd.get(), &message, sizeof message,
                          file.ok() ? std::span<const int>(fds) : std::span<const int>());
}

} // namespace tqfpm::workers
