// The event loop as tqfpm sees it: descriptors, timers, signals. One loop a process, one thread.
//
// A watch stops when it is destroyed, also inside a callback of another watch; it must not be destroyed inside its own.
// Declare it after the Fd that it watches. Times are tqfpm::Clock's.
#pragma once

#include <cstddef>
#include <functional>
#include <memory>

#include "base/clock.h"

namespace tqfpm::sys {

inline constexpr unsigned kReadable = 1;
inline constexpr unsigned kWritable = 2;

class EventLoop {
public:
  EventLoop();
  ~EventLoop();
  EventLoop(const EventLoop &) = delete;
  EventLoop &operator=(const EventLoop &) = delete;

  // Runs until stop().
  void run();
  void stop();
  // Called in each turn before the loop waits: the place to destroy what callbacks have left for dead.
  void before_wait(std::function<void()> callback);

private:
  friend class IoWatch;
  friend class TimerWatch;
  friend class SignalWatch;
  struct State;
  std::unique_ptr<State> state_;
};

class IoWatch {
public:
  using Callback = std::function<void(unsigned events)>;
  IoWatch(EventLoop &loop, int fd, Callback callback);
  ~IoWatch();
  IoWatch(const IoWatch &) = delete;
  IoWatch &operator=(const IoWatch &) = delete;

  // kReadable | kWritable, or 0 for nothing. Costs nothing when it changes nothing.
  void set(unsigned events);
  [[nodiscard]] unsigned events() const { return events_; }

private:
  friend struct Trampoline;
  EventLoop &loop_;
  Callback callback_;
  unsigned events_ = 0;
  int fd_;
  alignas(void *) std::byte watcher_[64];
};

class TimerWatch {
public:
  using Callback = std::function<void()>;
  TimerWatch(EventLoop &loop, Callback callback);
  ~TimerWatch();
  TimerWatch(const TimerWatch &) = delete;
  TimerWatch &operator=(const TimerWatch &) = delete;

  void at(TimePoint when); // TimePoint::max() stops it
  void stop();
  [[nodiscard]] TimePoint due() const { return due_; }

private:
  friend struct Trampoline;
  EventLoop &loop_;
  Callback callback_;
  TimePoint due_ = TimePoint::max();
  alignas(void *) std::byte watcher_[64];
};

class SignalWatch {
public:
  using Callback = std::function<void()>;
  SignalWatch(EventLoop &loop, int signal, Callback callback);
  ~SignalWatch();
  SignalWatch(const SignalWatch &) = delete;
  SignalWatch &operator=(const SignalWatch &) = delete;

private:
  friend struct Trampoline;
  EventLoop &loop_;
  Callback callback_;
  alignas(void *) std::byte watcher_[64];
};

} // namespace tqfpm::sys
