// The pool's status and ping pages.
#pragma once

#include <ctime>
#include <string_view>

#include "config/types.h"
#include "dispatcher/answers.h"
#include "pool/request.h"
#include "pool/request_queue.h"
#include "status/render.h"
#include "status/scoreboard.h"
#include "workers/workers.h"

namespace tqfpm::dispatcher {

// The path that a request names, as the ping and status paths are compared with it.
std::string_view request_path(const pool::Request &request);

class PoolStatus {
public:
  PoolStatus(const config::PoolConfig &pool, const workers::Workers &workers, const pool::RequestQueue &queue,
             status::Scoreboard &board);
  // Status and ping; on pm.status_listen there is nothing else.
  [[nodiscard]] Verdict judge(const pool::Request &request, TimePoint now) const;
  // `counts_itself`: in php-fpm a worker answers the page, which then is active.
  [[nodiscard]] status::PoolState state(bool with_workers, bool counts_itself, TimePoint now) const;

private:
  const config::PoolConfig &pool_;
  const workers::Workers &workers_;
  const pool::RequestQueue &queue_;
  status::Scoreboard &board_;
  TimePoint started_;
  std::time_t start_time_;
};

} // namespace tqfpm::dispatcher
