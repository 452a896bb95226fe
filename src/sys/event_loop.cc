#include "sys/event_loop.h"

namespace tqfpm::sys {

IoWatch::IoWatch(EventLoop &loop, int fd, Callback callback)
    : engine_(loop.engine()), callback_(std::move(callback)), fd_(fd) {
  engine_.add(*this);
}
IoWatch::~IoWatch() {
  engine_.remove(*this);
}

void IoWatch::set(unsigned events) {
  if (events == events_)
    return;
  events_ = events;
  engine_.change(*this);
}

TimerWatch::TimerWatch(EventLoop &loop, Callback callback) : engine_(loop.engine()), callback_(std::move(callback)) {
  engine_.add(*this);
}
TimerWatch::~TimerWatch() {
  engine_.remove(*this);
}

void TimerWatch::at(TimePoint when) {
  if (when == due_)
    return;
  due_ = when;
  engine_.change(*this);
}

SignalWatch::SignalWatch(EventLoop &loop, int signal, Callback callback)
    : engine_(loop.engine()), callback_(std::move(callback)), signal_(signal) {
  engine_.add(*this);
}
SignalWatch::~SignalWatch() {
  engine_.remove(*this);
}

} // namespace tqfpm::sys
