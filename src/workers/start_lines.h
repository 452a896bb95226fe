// What php-cgi says while it starts. It comes in the log after the lines of tqfpm's own start, as with php-fpm, whose
// workers start later; at once if PHP does not start.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "sys/event_loop.h"

namespace tqfpm::workers {

class StartLines {
public:
  StartLines(sys::EventLoop &loop, std::string pool) : pool_(std::move(pool)), timer_(loop, [this] { due_ = true; }) {}

  void add(const std::string &line);
  // Says what waits, and from here on everything at once.
  void say();
  // The same when surely all pools are up.
  void say_at(TimePoint when) {
    if (wait_)
      timer_.at(when);
  }
  [[nodiscard]] bool take_due() { return std::exchange(due_, false); }

private:
  void put(const std::string &line) const;
  std::string pool_;
  bool wait_ = true;
  bool due_ = false;
  std::vector<std::string> lines_;
  sys::TimerWatch timer_;
};

} // namespace tqfpm::workers
