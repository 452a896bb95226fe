// The event loop as tqfpm sees it: descriptors, timers, signals. One loop a process, one thread.
//
// A watch only notes what has happened: the work is done in one round a turn, in before_wait(). A watch stops when it
// is destroyed, also inside a callback of another watch; it must not be destroyed inside its own. Declare it after the
// Fd that it watches. Times are tqfpm::Clock's; a loop made from a fake engine has a clock that a test moves.
#pragma once

#include <cstddef>
#include <functional>
#include <memory>
#include <utility>

#include "base/clock.h"

namespace tqfpm::sys {

inline constexpr unsigned kReadable = 1;
inline constexpr unsigned kWritable = 2;

class IoWatch;
class TimerWatch;
class SignalWatch;

// What a loop runs on: libev, or a fake in tests. The watches call it; each has room for what the engine keeps of it.
class LoopEngine {
public:
  LoopEngine() = default;
  virtual ~LoopEngine() = default;
  LoopEngine(const LoopEngine &) = delete;
  LoopEngine &operator=(const LoopEngine &) = delete;

  virtual TimePoint now() = 0;
  virtual void run() = 0;
  virtual void stop() = 0;
  virtual void before_wait(std::function<void()> callback) = 0;
  virtual void add(IoWatch &watch) = 0;
  virtual void change(IoWatch &watch) = 0; // watch.events() is new
  virtual void remove(IoWatch &watch) = 0;
  virtual void add(TimerWatch &watch) = 0;
  virtual void change(TimerWatch &watch) = 0; // watch.due() is new
  virtual void remove(TimerWatch &watch) = 0;
  virtual void add(SignalWatch &watch) = 0;
  virtual void remove(SignalWatch &watch) = 0;
};

class EventLoop {
public:
  EventLoop(); // on libev
  explicit EventLoop(std::unique_ptr<LoopEngine> engine) : engine_(std::move(engine)) {}
  EventLoop(const EventLoop &) = delete;
  EventLoop &operator=(const EventLoop &) = delete;

  // Runs until stop().
  void run() { engine_->run(); }
  void stop() { engine_->stop(); }
  // Called in each turn before the loop waits.
  void before_wait(std::function<void()> callback) { engine_->before_wait(std::move(callback)); }
  [[nodiscard]] TimePoint now() const { return engine_->now(); }
  [[nodiscard]] LoopEngine &engine() const { return *engine_; }

private:
  std::unique_ptr<LoopEngine> engine_;
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
  // For engines.
  [[nodiscard]] int fd() const { return fd_; }
  void fire(unsigned events) { callback_(events); }
  std::byte *room() { return room_; }

private:
  LoopEngine &engine_;
  Callback callback_;
  unsigned events_ = 0;
  int fd_;
  alignas(void *) std::byte room_[64];
};

class TimerWatch {
public:
  using Callback = std::function<void()>;
  TimerWatch(EventLoop &loop, Callback callback);
  ~TimerWatch();
  TimerWatch(const TimerWatch &) = delete;
  TimerWatch &operator=(const TimerWatch &) = delete;

  void at(TimePoint when); // TimePoint::max() stops it
  void no_later_than(TimePoint when) {
    if (when < due_)
      at(when);
  }
  void stop() { at(TimePoint::max()); }
  [[nodiscard]] TimePoint due() const { return due_; }
  // For engines.
  void fire() {
    due_ = TimePoint::max();
    callback_();
  }
  std::byte *room() { return room_; }

private:
  LoopEngine &engine_;
  Callback callback_;
  TimePoint due_ = TimePoint::max();
  alignas(void *) std::byte room_[64];
};

class SignalWatch {
public:
  using Callback = std::function<void()>;
  SignalWatch(EventLoop &loop, int signal, Callback callback);
  ~SignalWatch();
  SignalWatch(const SignalWatch &) = delete;
  SignalWatch &operator=(const SignalWatch &) = delete;

  // For engines.
  [[nodiscard]] int signal() const { return signal_; }
  void fire() { callback_(); }
  std::byte *room() { return room_; }

private:
  LoopEngine &engine_;
  Callback callback_;
  int signal_;
  alignas(void *) std::byte room_[64];
};

} // namespace tqfpm::sys
