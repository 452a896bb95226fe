// The event loop on libev; nothing else includes <ev.h>.
#include <ev.h>

#include <algorithm>
#include <new>

#include "base/result.h"
#include "sys/event_loop.h"

namespace tqfpm::sys {

namespace {

template <typename T> T *as(std::byte *room) {
  return std::launder(reinterpret_cast<T *>(room));
}

int to_ev(unsigned events) {
  return ((events & kReadable) != 0 ? EV_READ : 0) | ((events & kWritable) != 0 ? EV_WRITE : 0);
}

// Where libev's C callbacks arrive.
void on_io(struct ev_loop *, ev_io *watcher, int revents) {
  static_cast<IoWatch *>(watcher->data)
      ->fire(((revents & EV_READ) != 0 ? kReadable : 0U) | ((revents & EV_WRITE) != 0 ? kWritable : 0U));
}
void on_timer(struct ev_loop *, ev_timer *watcher, int) {
  static_cast<TimerWatch *>(watcher->data)->fire();
}
void on_signal(struct ev_loop *, ev_signal *watcher, int) {
  static_cast<SignalWatch *>(watcher->data)->fire();
}
void on_prepare(struct ev_loop *, ev_prepare *watcher, int) {
  (*static_cast<std::function<void()> *>(watcher->data))();
}

class EvEngine : public LoopEngine {
public:
  EvEngine() : loop_(ev_loop_new(EVFLAG_AUTO | EVFLAG_NOENV)) {
    static_assert(sizeof(ev_io) <= 64 && sizeof(ev_timer) <= 64 && sizeof(ev_signal) <= 64);
    TQFPM_ASSERT(loop_ != nullptr);
  }
  ~EvEngine() override { ev_loop_destroy(loop_); }

  TimePoint now() override { return Clock::now(); }
  void run() override { ev_run(loop_, 0); }
  void stop() override { ev_break(loop_, EVBREAK_ALL); }
  void before_wait(std::function<void()> callback) override {
    before_wait_ = std::move(callback);
    ev_prepare_init(&prepare_, &on_prepare);
    prepare_.data = &before_wait_;
    ev_prepare_start(loop_, &prepare_);
  }

  void add(IoWatch &watch) override {
    auto *watcher = new (watch.room()) ev_io;
    ev_io_init(watcher, &on_io, watch.fd(), 0);
    watcher->data = &watch;
  }
  void change(IoWatch &watch) override {
    auto *watcher = as<ev_io>(watch.room());
    ev_io_stop(loop_, watcher);
    ev_io_set(watcher, watch.fd(), to_ev(watch.events()));
    if (watch.events() != 0)
      ev_io_start(loop_, watcher);
  }
  void remove(IoWatch &watch) override { ev_io_stop(loop_, as<ev_io>(watch.room())); }

  void add(TimerWatch &watch) override {
    auto *watcher = new (watch.room()) ev_timer;
    ev_timer_init(watcher, &on_timer, 0., 0.);
    watcher->data = &watch;
  }
  void change(TimerWatch &watch) override {
    auto *watcher = as<ev_timer>(watch.room());
    ev_timer_stop(loop_, watcher);
    if (watch.due() == TimePoint::max())
      return;
    const double delay = std::chrono::duration<double>(watch.due() - Clock::now()).count();
    ev_now_update(loop_);
    ev_timer_set(watcher, std::max(delay, 0.), 0.);
    ev_timer_start(loop_, watcher);
  }
  void remove(TimerWatch &watch) override { ev_timer_stop(loop_, as<ev_timer>(watch.room())); }

  void add(SignalWatch &watch) override {
    auto *watcher = new (watch.room()) ev_signal;
    ev_signal_init(watcher, &on_signal, watch.signal());
    watcher->data = &watch;
    ev_signal_start(loop_, watcher);
  }
  void remove(SignalWatch &watch) override { ev_signal_stop(loop_, as<ev_signal>(watch.room())); }

private:
  struct ev_loop *loop_;
  ev_prepare prepare_{};
  std::function<void()> before_wait_;
};

} // namespace

EventLoop::EventLoop() : engine_(std::make_unique<EvEngine>()) {}

} // namespace tqfpm::sys
