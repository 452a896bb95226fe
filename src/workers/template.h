// One template process: from the order to start it until it goes. Passive: its watches only note; next() tells.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <utility>

#include "base/result.h"
#include "ipc/control.h"
#include "pool/worker_table.h"
#include "sys/event_loop.h"
#include "sys/fd.h"
#include "workers/output.h"

namespace tqfpm::workers {

struct TemplateTold {
  enum class What : std::uint8_t {
    kReady,       // it can fork workers; facts
    kSpawnFailed, // it could not fork `worker`: error (errno)
    kGone,        // it does not come up, or is no use any more: text. It has to be killed and destroyed
  };
  What what = What::kGone;
  pool::WorkerId worker{};
  int error = 0;
  std::string text;
  ipc::PhpFacts facts{};
};

class Template {
public:
  using Note = std::function<void()>;
  // The ends that the process gets.
  struct Ends {
    sys::Fd control, out, err;
  };

  // Makes one that is to be started with `ends`. `whole_lines`: see Output. Error: no descriptors.
  static Result<std::unique_ptr<Template>> make(sys::EventLoop &loop, const Note &note, bool whole_lines, TimePoint now,
                                                Ends &ends);

  // The spawner has started it.
  void started(int pid) { pid_ = pid; }
  // ... or not; or it has ended.
  void fail(std::string why) { failure_ = std::move(why); }
  // `well`: by itself, with code 0.
  void ended(std::string why, bool well) {
    ended_well_ = well;
    pid_ = -1;
    fail(std::move(why));
  }
  [[nodiscard]] int pid() const { return pid_; }
  [[nodiscard]] bool ready() const { return state_ == State::kReady; }
  [[nodiscard]] bool was_ready() const { return was_ready_; }

  // One thing that has happened. False: nothing more in this turn.
  bool next(TemplateTold &told, TimePoint now);
  // Lines that it has written, see Output::drain(). Without `at_end` only if something is noted.
  void drain(std::size_t room, bool at_end, TimePoint now, const Output::OnLine &on_line);
  // What was suppressed of them and is to be told now.
  std::uint64_t take_suppressed(TimePoint now, bool at_end) { return limit_.take_suppressed(now, at_end); }
  void settle() { reports_ = 0; }
  // When next() has to be called, if nothing is noted before.
  [[nodiscard]] TimePoint due() const { return due_; }

  // Has it fork a worker that gets these descriptors: channel, stdout, stderr.
  Status spawn(pool::WorkerId id, std::span<const int> fds);

private:
  // kLoaded: the library runs in it. kClosed: it has closed its control socket, and should end.
  enum class State : std::uint8_t { kOrdered, kLoaded, kReady, kClosed };
  Template(sys::EventLoop &loop, const Note &note, sys::Fd control, sys::Fd out, sys::Fd err, bool whole_lines);
  bool heard(const ipc::TemplateReply &reply, TemplateTold &told, TimePoint now);
  bool gone(TemplateTold &told, std::string why);
  [[nodiscard]] const char *overdue() const;

  sys::Fd control_;
  sys::IoWatch watch_; // of control_
  Output out_;
  Output err_;
  OutputLimit limit_;
  State state_ = State::kOrdered;
  int pid_ = -1;
  bool readable_ = false;
  bool was_ready_ = false;
  bool loaded_ = false; // the library runs in it
  bool ended_well_ = false;
  bool said_ = false;    // it has written something
  unsigned reports_ = 0; // in this turn
  TimePoint due_{};
  std::string failure_;
};

} // namespace tqfpm::workers
