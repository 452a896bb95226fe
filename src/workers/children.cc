#include "workers/children.h"

#include <unistd.h>

#include <csignal>
#include <utility>

#include "sys/proc_info.h"
#include "sys/process.h"

namespace tqfpm::workers {

namespace {

constexpr std::size_t kMostEarly = 65536; // scripts may leave as many as they like

class RealProcesses : public Processes {
public:
  bool kill(pid_t pid, int number) override { return ::kill(pid, number) == 0; }
  std::optional<End> next_end() override {
    const auto child = sys::next_ended_child();
    return child ? std::optional(End{child->pid, child->status}) : std::nullopt;
  }
  bool is_child(pid_t pid) override { return sys::is_child(pid); }
  std::vector<pid_t> children_of(pid_t pid) override { return sys::children_of(pid); }
  pid_t self() override { return ::getpid(); }
};

} // namespace

Processes &real_processes() {
  static RealProcesses processes;
  return processes;
}

Children::Children(Processes &system, pid_t spawner) : system_(system) {
  if (spawner > 0)
    known_[spawner] = Who{Kind::kSpawner, {}};
}

bool Children::next(Ended &ended) {
  if (!noted_ || ends_ >= kEndsPerTurn)
    return false;
  const auto end = system_.next_end();
  if (!end) {
    noted_ = false;
    return false;
  }
  ++ends_;
  ended = Ended{{}, end->pid, end->status};
  if (const auto found = known_.find(end->pid); found != known_.end()) {
    ended.who = found->second;
    known_.erase(found);
  } else if (expected_ > 0 && early_.size() < kMostEarly) {
    early_[end->pid] = end->status;
  }
  return true;
}

bool Children::settle() {
  ends_ = 0;
  return noted_;
}

bool Children::is_new(pid_t pid) const {
  return pid > 0 && !known_.contains(pid) && system_.is_child(pid);
}

Children::Claim Children::told(pid_t pid) {
  Claim claim;
  if (const auto found = early_.find(pid); pid > 0 && found != early_.end()) {
    claim.ours = true;
    claim.status = found->second;
    early_.erase(found);
  } else {
    claim.ours = is_new(pid);
  }
  expected_ -= expected_ > 0 ? 1 : 0;
  if (expected_ == 0)
    early_.clear();
  return claim;
}

std::vector<pid_t> Children::strangers() {
  std::vector<pid_t> pids = system_.children_of(system_.self());
  std::erase_if(pids, [this](pid_t pid) { return known_.contains(pid); });
  return pids;
}

} // namespace tqfpm::workers
