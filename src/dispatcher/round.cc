#include "dispatcher/round.h"

#include <utility>

namespace tqfpm::dispatcher {

namespace {
constexpr int kPasses = 16; // in one turn
}

bool Round::concerns_request(const workers::Event &event) const {
  using Kind = workers::Event::Kind;
  return event.kind == Kind::kAnswer || event.kind == Kind::kReturned || event.kind == Kind::kLost ||
         event.kind == Kind::kTaken;
}

bool Round::next(workers::Event &event, TimePoint now) {
  for (; passes_ < kPasses; ++passes_) {
    while (workers_.next(event)) {
      any_ = true;
      if (!concerns_request(event))
        return true;
      requests_.on(event, now);
    }
    requests_.scripts_found(now);
    any_ = front_.work(now) || any_;
    for (std::size_t i = 0; i < front_.touched().size(); ++i) // it grows meanwhile
      requests_.look_at(*front_.touched()[i], now);
    if (!std::exchange(any_, false) && passes_ > 0)
      break;
    requests_.schedule(now);
  }
  return false;
}

void Round::settle(TimePoint now) {
  passes_ = 0;
  front_.settle(now);
  workers_.settle(now);
}

// Workers that still run a request whose client has gone, or that finish after END_REQUEST, are waited for.
bool Round::finish() {
  if (requests_.waiting() > 0 || front_.expects())
    return false;
  workers_.finish();
  return front_.empty() && workers_.empty();
}

} // namespace tqfpm::dispatcher
