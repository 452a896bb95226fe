// A loop for tests: real descriptors, looked at once a turn without waiting, and a clock that the test moves.
#pragma once

#include <poll.h>

#include <algorithm>
#include <functional>
#include <utility>
#include <vector>

#include "sys/event_loop.h"

namespace tqfpm::test {

class FakeEngine : public sys::LoopEngine {
public:
  TimePoint now() override { return now_; }
  void run() override {}
  void stop() override { stopped_ = true; }
  void before_wait(std::function<void()> callback) override { before_wait_ = std::move(callback); }
  void add(sys::IoWatch &watch) override { io_.push_back(&watch); }
  void change(sys::IoWatch &) override {}
  void remove(sys::IoWatch &watch) override { std::erase(io_, &watch); }
  void add(sys::TimerWatch &watch) override { timers_.push_back(&watch); }
  void change(sys::TimerWatch &) override {}
  void remove(sys::TimerWatch &watch) override { std::erase(timers_, &watch); }
  void add(sys::SignalWatch &watch) override { signals_.push_back(&watch); }
  void remove(sys::SignalWatch &watch) override { std::erase(signals_, &watch); }

  [[nodiscard]] bool stopped() const { return stopped_; }
  void advance(Duration time) { now_ += time; }
  void raise(int number) {
    for (sys::SignalWatch *each : std::vector<sys::SignalWatch *>(signals_)) {
      if (each->signal() == number)
        each->fire();
    }
  }
  // The next timer; TimePoint::max() if there is none.
  [[nodiscard]] TimePoint next_timer() const {
    TimePoint next = TimePoint::max();
    for (const sys::TimerWatch *each : timers_)
      next = std::min(next, each->due());
    return next;
  }
  // One turn: what is ready is told, timers that are due, then before_wait. False: nothing was ready.
  bool turn() {
    bool any = false;
    std::vector<pollfd> polled;
    const std::vector<sys::IoWatch *> watches = io_;
    for (const sys::IoWatch *each : watches)
      polled.push_back({each->events() != 0 ? each->fd() : -1, wanted(*each), 0});
    (void)::poll(polled.data(), polled.size(), 0);
    for (std::size_t i = 0; i < watches.size(); ++i) {
      const short got = polled[i].revents;
      if (got == 0 || std::find(io_.begin(), io_.end(), watches[i]) == io_.end() || watches[i]->events() == 0)
        continue;
      any = true;
      const bool ended = (got & (POLLHUP | POLLERR)) != 0; // as libev: both are told
      watches[i]->fire(watches[i]->events() & (((got & POLLIN) != 0 || ended ? sys::kReadable : 0U) |
                                               ((got & POLLOUT) != 0 || ended ? sys::kWritable : 0U)));
    }
    for (sys::TimerWatch *each : std::vector<sys::TimerWatch *>(timers_)) {
      if (std::find(timers_.begin(), timers_.end(), each) != timers_.end() && each->due() <= now_) {
        any = true;
        each->fire();
      }
    }
    if (before_wait_)
      before_wait_();
    return any;
  }

private:
  static short wanted(const sys::IoWatch &watch) {
    return static_cast<short>(((watch.events() & sys::kReadable) != 0 ? POLLIN : 0) |
                              ((watch.events() & sys::kWritable) != 0 ? POLLOUT : 0));
  }
  TimePoint now_ = TimePoint{} + std::chrono::hours(1);
  bool stopped_ = false;
  std::function<void()> before_wait_;
  std::vector<sys::IoWatch *> io_;
  std::vector<sys::TimerWatch *> timers_;
  std::vector<sys::SignalWatch *> signals_;
};

// A loop on it, and the engine to turn it by hand.
struct FakeLoop {
  FakeLoop() : FakeLoop(std::make_unique<FakeEngine>()) {}
  FakeEngine &engine;
  sys::EventLoop loop;

private:
  explicit FakeLoop(std::unique_ptr<FakeEngine> made) : engine(*made), loop(std::move(made)) {}
};

} // namespace tqfpm::test
