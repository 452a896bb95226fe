// The access log's line: php-fpm's access.format, compiled once.
#pragma once

#include <ctime>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace tqfpm::status {

// What is known of a request when it ends.
struct AccessRecord {
  std::string_view method, uri, query, script, user, peer, pool;
  int pid = 0; // of the worker; 0: tqfpm answered
  int parent_pid = 0;
  int status = 200;
  std::uint64_t content_length = 0; // of the request
  double seconds = 0;               // from start to end
  std::uint64_t memory = 0;         // peak, bytes; 0: not known
  double cpu_percent = 0;           // not known: 0
  std::time_t start = 0, end = 0;
  std::function<std::string_view(std::string_view)> param;  // %{name}e: a FastCGI parameter, "" if absent
  std::function<std::string_view(std::string_view)> header; // %{name}o: a response header
  std::string_view tag;                                     // request id
  double queue_seconds = 0;
  std::string_view reason;
};

class AccessFormat {
public:
  // Errors name the character that is wrong.
  static Result<AccessFormat> compile(std::string_view format);
  // One line without the newline. Control characters of values are shown as \\xNN.
  [[nodiscard]] std::string line(const AccessRecord &record) const;

private:
  struct Part {
    char kind = 0;    // 0: literal text
    std::string text; // literal, or what stands in {}
  };
  std::vector<Part> parts_;
};

} // namespace tqfpm::status
