// The dispatcher's side of the spawner's control socket: one place for everybody who asks it something.
//
// ask() returns at once. Its answer, or why there is none, comes exactly once and only from step(), which the round
// calls; never from inside ask(), and from no callback of the loop.
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/clock.h"
#include "ipc/control.h"
#include "sys/event_loop.h"
#include "sys/fd.h"

namespace tqfpm::workers {

struct SpawnerAnswer {
  std::string why;                        // there is no answer, for this reason; empty: there is one
  ipc::SpawnerReply reply{};              // to all but kTrace
  const ipc::TraceReply *trace = nullptr; // to kTrace; lives as long as the call

  [[nodiscard]] bool ok() const { return why.empty(); }
};
using OnSpawnerAnswer = std::function<void(const SpawnerAnswer &)>;

class SpawnerLink {
public:
  // `control` does not block. A spawner that owes answers and gives none for `silence` is taken to be gone: alive() is
  // false then.
  SpawnerLink(sys::EventLoop &loop, sys::Fd control, Duration silence = Duration::max());

  // `request.id` is the link's. `fds` are sent at once and stay the caller's. After `patience` without an answer there
  // is none; one that comes later is dropped.
  void ask(ipc::SpawnerRequest request, std::span<const int> fds, OnSpawnerAnswer on_answer, Duration patience);
  // Which part of `path` is the script, as workers see it? At most ipc::kLookPath bytes.
  void look(std::string_view path, OnSpawnerAnswer on_answer, Duration patience);

  // Tells one answer. False: there is none to be told in this turn.
  bool step(TimePoint now);
  // End of the round: allows as many answers in the next turn as one may have.
  void settle(TimePoint now);
  // Its process has ended: what it has said is still told, everything else has no answer.
  void ended();

  // Takes it orders? False: every ask() will be told that there is no answer.
  [[nodiscard]] bool alive() const { return alive_; }
  // Questions without an answer.
  [[nodiscard]] std::size_t pending() const { return pending_.size(); }

private:
  struct Question {
    ipc::SpawnKind kind{};
    OnSpawnerAnswer on_answer;
    TimePoint given_up{};
  };
  struct Untold { // an answer that has no packet
    OnSpawnerAnswer on_answer;
    std::string why;
  };
  std::uint32_t open_question(ipc::SpawnKind kind, OnSpawnerAnswer on_answer, Duration patience);
  void refuse(std::uint32_t id);
  void send_looks();
  bool read();
  bool heard(std::size_t length);
  void sent(ipc::SpawnKind kind);
  void await();
  void notice_silence(TimePoint now);
  void close();
  void give_up(TimePoint now);

  sys::EventLoop &loop_;
  sys::Fd control_;
  std::map<std::uint32_t, Question> pending_; // by id
  std::deque<std::string> waiting_looks_;     // packets
  std::size_t looks_ = 0;                     // that the spawner has, without an answer
  std::deque<Untold> untold_;
  std::vector<char> buffer_; // one packet
  std::unique_ptr<ipc::TraceReply> trace_;
  std::uint32_t next_id_ = 1;
  bool alive_ = true;
  bool readable_ = false;
  bool gone_ = false;                       // its process has ended
  unsigned reads_ = 0;                      // in this turn
  sys::IoWatch watch_;                      // of control_
  TimePoint give_up_at_ = TimePoint::max(); // the first question
  Duration silence_;
  std::size_t owed_ = 0;                   // answers, also of questions that were given up
  std::size_t owed_orders_ = 0;            // of them: to orders to start something
  TimePoint silent_at_ = TimePoint::max(); // when it will have owed them for too long
  sys::TimerWatch timer_;                  // for a round then, or when there is something left to tell
};

} // namespace tqfpm::workers
