// Where php-cgi answers otherwise than php-fpm does: its messages, its "no such script", fastcgi.error_header.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

#include "config/types.h"
#include "fcgi/response.h"
#include "pool/request.h"
#include "spawner/php_command.h"

namespace tqfpm::dispatcher {

class PhpOutput {
public:
  PhpOutput(const config::GlobalConfig &global, const config::PoolConfig &pool, const spawner::PhpOptions &options);
  // Response records as php-fpm would have sent them: `records` themselves, or others in `room`. PHP's messages go
  // into the log, too, where the pool catches the output of workers.
  std::string_view adapt(pool::Request &request, std::string_view records, const fcgi::ResponseScan &scan,
                         std::string &room) const;

private:
  void log_message(const pool::Request &request, std::string_view line, bool first) const;
  [[nodiscard]] std::string replacement(std::string_view first_stdout, bool &unknown_script) const;

  const config::PoolConfig &pool_;
  std::size_t log_limit_;
  bool debugging_;
  bool notices_;             // does the log take them?
  std::string error_status_; // "Status: ..." of fastcgi.error_header; "" if that is not set
};

} // namespace tqfpm::dispatcher
