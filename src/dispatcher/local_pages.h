// Answers that the dispatcher gives by itself: ping, status, errors. Always available, also when every worker is busy.
#pragma once

#include <string>
#include <string_view>

#include "config/types.h"
#include "dispatcher/request.h"
#include "status/render.h"

namespace tqfpm::dispatcher {

struct LocalAnswer {
  int status = 200;
  std::string head; // header lines, each with CRLF, without Status
  std::string body;
  std::string words;       // for the web server's error log
  const char *reason = ""; // for the access log; "" for ping and status
};

// An error page: 403, 404, 411, 413, 500, 502, 503 (with Retry-After), 504.
LocalAnswer error_page(int status, const char *reason, const std::string &tag);
// The path that a request names, as the ping and status paths are compared with it.
std::string_view request_path(const Request &request);
// The user of HTTP's basic authentication, as PHP sees it; "" if there is none.
std::string request_user(const Request &request);
LocalAnswer ping_page(const config::PoolConfig &pool);
LocalAnswer status_page(const status::PoolState &state, std::string_view query);

} // namespace tqfpm::dispatcher
