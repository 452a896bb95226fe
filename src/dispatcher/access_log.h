// access.log: one line for each request.
#pragma once

#include <utility>

#include "config/types.h"
#include "pool/request.h"
#include "status/access_format.h"
#include "status/scoreboard.h"
#include "sys/event_loop.h"
#include "sys/log_sink.h"

namespace tqfpm::dispatcher {

class AccessLog {
public:
  AccessLog(sys::EventLoop &loop, const config::PoolConfig &pool, status::Scoreboard &board);
  ~AccessLog();
  AccessLog(const AccessLog &) = delete;
  AccessLog &operator=(const AccessLog &) = delete;

  // Lines go here from now on.
  void use(sys::Fd file) { sink_.take(std::move(file)); }
  // Writes the line of a request that has ended, unless access.suppress_path asks for silence.
  void write(const pool::Request &request, TimePoint now);
  [[nodiscard]] const status::AccessNeeds &needs() const { return format_.needs(); }

private:
  [[nodiscard]] bool suppressed(const pool::Request &request) const;

  const config::PoolConfig &pool_;
  status::AccessFormat format_;
  sys::LogSink sink_;
};

} // namespace tqfpm::dispatcher
