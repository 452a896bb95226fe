// The processes below the dispatcher: whose end is whose. All of them are its children, whoever has started them.
#pragma once

#include <sys/types.h>

#include <cstddef>
#include <cstdint>
#include <deque>
#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

#include "pool/worker_table.h"

namespace tqfpm::workers {

// What the system does with processes. Tests have a fake one.
class Processes {
public:
  struct End {
    pid_t pid = -1;
    int status = 0;
  };
  Processes() = default;
  virtual ~Processes() = default;
  Processes(const Processes &) = delete;
  Processes &operator=(const Processes &) = delete;

  virtual bool kill(pid_t pid, int number) = 0; // false: errno
  virtual std::optional<End> next_end() = 0;    // a child that has ended, waited for
  virtual bool is_child(pid_t pid) = 0;         // of ours, not waited for
  virtual std::vector<pid_t> children_of(pid_t pid) = 0;
  virtual pid_t self() = 0;
};
Processes &real_processes();

// Who has which pid. Spawner, templates and workers are processes of the scripts' user: a pid that they tell is
// believed if it is a child of ours that is not known as another one. We have the right to signal anybody.
class Children {
public:
  enum class Kind : std::uint8_t { kWorker, kTemplate, kSpawner, kStranger };
  struct Who {
    Kind kind = Kind::kStranger;
    pool::WorkerId worker{}; // kWorker
  };
  struct Ended {
    Who who;
    pid_t pid = -1;
    int status = 0;
  };
  Children(Processes &system, pid_t spawner);

  // SIGCHLD: somebody has ended.
  void note() { noted_ = true; }
  [[nodiscard]] bool noted() const { return noted_; }
  // The next one that has ended; it is not known any more. At most kEndsPerTurn in a turn.
  bool next(Ended &ended);
  // End of the round. True: there may be more to come, in another turn.
  bool settle();

  // A claim of a process that has told its own pid.
  [[nodiscard]] bool is_new(pid_t pid) const;
  void add_worker(pid_t pid, pool::WorkerId id) { known_[pid] = Who{Kind::kWorker, id}; }
  void add_template(pid_t pid) { known_[pid] = Who{Kind::kTemplate, {}}; }
  void forget(pid_t pid) { known_.erase(pid); }

  // The spawner has been asked for a process: until it has answered, unknown ends are kept, since they may be its.
  void expect() { ++expected_; }
  struct Claim {
    bool ours = false;         // believe it
    std::optional<int> status; // it has ended already, with this status
  };
  Claim told(pid_t pid); // the answer; `pid` <= 0: there is no process
  [[nodiscard]] bool expecting() const { return expected_ > 0; }

  // What nobody knows: a worker keeps its descendants below itself; when it has ended they are ours.
  std::vector<pid_t> strangers();
  Processes &system() { return system_; }

private:
  static constexpr unsigned kEndsPerTurn = 1024;
  Processes &system_;
  std::unordered_map<pid_t, Who> known_;
  std::unordered_map<pid_t, int> early_; // status of unknown processes that have ended while some are expected
  std::size_t expected_ = 0;
  bool noted_ = true; // what ended before there was a handler
  unsigned ends_ = 0; // in this turn
};

} // namespace tqfpm::workers
