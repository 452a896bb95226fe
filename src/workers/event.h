// What the workers tell the round, see workers.h.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "fcgi/response.h"
#include "ipc/control.h"
#include "pool/request.h"

namespace tqfpm::workers {

inline constexpr char kNoAnswer[] = "closed its connection"; // kLost: it lives, and has not answered

// What has happened. `request` is one that assign() was called with; with kReturned, kLost and a kAnswer with
// scan.ended the worker has given it back.
struct Event {
  enum class Kind : std::uint8_t {
    kReady,         // once: PHP is up, the pool can serve
    kFailed,        // once, before kReady: PHP cannot be started; text
    kWornOut,       // the spawner has gone: a new generation is needed some time
    kVariantFailed, // PHP does not start with the settings of `variant`: nothing that waits for it will be served
    kFacts,         // the pool's php.ini has been read; facts
    kAnswer,        // whole records of the answer, ids set for the client; with scan.ended the request is over
    kReturned,      // no worker has seen a byte of the request, its body is whole again: another one can have it
    kLost,          // its worker died, or closed its connection, without (the rest of) an answer; text: how
    kTaken,         // its worker has taken some of the body that was here: there is room for more of it
    kWantsStatus,   // a script has called fpm_get_status(): answer with send_status(worker, ...)
    kChanged,       // a worker has become idle, or has gone: decide again
  };
  Kind kind = Kind::kChanged;
  pool::Request *request = nullptr;
  pool::WorkerId worker{};
  pool::VariantNumber variant = 0;
  std::string_view records; // kAnswer; valid until the next call of next()
  fcgi::ResponseScan scan;  // kAnswer
  bool timed_out = false;   // kLost, ended kAnswer: by request_terminate_timeout
  std::string text;
  ipc::PhpFacts facts{};
};

// Events that have not been told.
class Events {
public:
  [[nodiscard]] bool empty() const { return next_ == events_.size(); }
  void push(Event event) { events_.push_back(std::move(event)); }
  void push(Event::Kind kind, std::string text = "") {
    Event event;
    event.kind = kind;
    event.text = std::move(text);
    events_.push_back(std::move(event));
  }
  Event pop() {
    Event event = std::move(events_[next_++]);
    if (empty()) {
      events_.clear();
      next_ = 0;
    }
    return event;
  }
  // The request goes: nothing names it any more.
  void forget(const pool::Request &request) {
    const auto first = events_.begin() + static_cast<std::ptrdiff_t>(next_);
    events_.erase(std::remove_if(first, events_.end(), [&](const Event &each) { return each.request == &request; }),
                  events_.end());
  }

private:
  std::vector<Event> events_; // from next_ on
  std::size_t next_ = 0;
};

} // namespace tqfpm::workers
