// The event loop on libev; nothing else includes <ev.h>.
#include "sys/event_loop.h"

#include <ev.h>

#include <algorithm>
#include <new>

#include "base/result.h"

namespace tqfpm::sys {

namespace {
template <typename T> T *as(std::byte *storage) {
  return std::launder(reinterpret_cast<T *>(storage));
}
int to_ev(unsigned events) {
  return ((events & kReadable) != 0 ? EV_READ : 0) | ((events & kWritable) != 0 ? EV_WRITE : 0);
}
} // namespace

struct EventLoop::State {
  struct ev_loop *loop = nullptr;
  ev_prepare prepare{};
  std::function<void()> before_wait;
};

// Where libev's C callbacks arrive.
struct Trampoline {
  static void io(struct ev_loop *, ev_io *watcher, int revents) {
    auto *watch = static_cast<IoWatch *>(watcher->data);
    watch->callback_(((revents & EV_READ) != 0 ? kReadable : 0U) | ((revents & EV_WRITE) != 0 ? kWritable : 0U));
  }
  static void timer(struct ev_loop *, ev_timer *watcher, int) {
    auto *watch = static_cast<TimerWatch *>(watcher->data);
    watch->due_ = TimePoint::max();
    watch->callback_();
  }
  static void signal(struct ev_loop *, ev_signal *watcher, int) {
    static_cast<SignalWatch *>(watcher->data)->callback_();
  }
  static void prepare(struct ev_loop *, ev_prepare *watcher, int) {
    (*static_cast<std::function<void()> *>(watcher->data))();
  }
};

EventLoop::EventLoop() : state_(std::make_unique<State>()) {
  static_assert(sizeof(ev_io) <= 64 && sizeof(ev_timer) <= 64 && sizeof(ev_signal) <= 64);
  state_->loop = ev_loop_new(EVFLAG_AUTO | EVFLAG_NOENV);
  TQFPM_ASSERT(state_->loop != nullptr);
}

EventLoop::~EventLoop() {
  ev_loop_destroy(state_->loop);
}

void EventLoop::run() {
  ev_run(state_->loop, 0);
}
void EventLoop::stop() {
  ev_break(state_->loop, EVBREAK_ALL);
}

void EventLoop::before_wait(std::function<void()> callback) {
  state_->before_wait = std::move(callback);
  ev_prepare_init(&state_->prepare, &Trampoline::prepare);
  state_->prepare.data = &state_->before_wait;
  ev_prepare_start(state_->loop, &state_->prepare);
}

IoWatch::IoWatch(EventLoop &loop, int fd, Callback callback) : loop_(loop), callback_(std::move(callback)), fd_(fd) {
  auto *watcher = new (watcher_) ev_io;
  ev_io_init(watcher, &Trampoline::io, fd, 0);
  watcher->data = this;
}
IoWatch::~IoWatch() {
  ev_io_stop(loop_.state_->loop, as<ev_io>(watcher_));
}

void IoWatch::set(unsigned events) {
  if (events == events_)
    return;
  events_ = events;
  auto *watcher = as<ev_io>(watcher_);
  ev_io_stop(loop_.state_->loop, watcher);
  ev_io_set(watcher, fd_, to_ev(events));
  if (events != 0)
    ev_io_start(loop_.state_->loop, watcher);
}

TimerWatch::TimerWatch(EventLoop &loop, Callback callback) : loop_(loop), callback_(std::move(callback)) {
  auto *watcher = new (watcher_) ev_timer;
  ev_timer_init(watcher, &Trampoline::timer, 0., 0.);
  watcher->data = this;
}
TimerWatch::~TimerWatch() {
  stop();
}

void TimerWatch::at(TimePoint when) {
  if (when == due_)
    return;
  stop();
  if (when == TimePoint::max())
    return;
  due_ = when;
  auto *watcher = as<ev_timer>(watcher_);
  const double delay = std::chrono::duration<double>(when - Clock::now()).count();
  ev_now_update(loop_.state_->loop);
  ev_timer_set(watcher, std::max(delay, 0.), 0.);
  ev_timer_start(loop_.state_->loop, watcher);
}

void TimerWatch::stop() {
  due_ = TimePoint::max();
  ev_timer_stop(loop_.state_->loop, as<ev_timer>(watcher_));
}

SignalWatch::SignalWatch(EventLoop &loop, int signal, Callback callback) : loop_(loop), callback_(std::move(callback)) {
  auto *watcher = new (watcher_) ev_signal;
  ev_signal_init(watcher, &Trampoline::signal, signal);
  watcher->data = this;
  ev_signal_start(loop_.state_->loop, watcher);
}
SignalWatch::~SignalWatch() {
  ev_signal_stop(loop_.state_->loop, as<ev_signal>(watcher_));
}

} // namespace tqfpm::sys
