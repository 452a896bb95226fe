// The access log's line: php-fpm's access.format with placeholders of our own, or a JSON object; compiled once.
#pragma once

#include <cstdint>
#include <ctime>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace tqfpm::status {

// What is known of a request when it ends.
struct AccessRecord {
  std::string_view method, uri, query, script, user, peer, pool;
  int pid = 0; // of the worker, or of the dispatcher that answered by itself
  int parent_pid = 0;
  int status = 200;
  std::uint64_t content_length = 0; // of the request
  double seconds = 0;               // from start to end
  std::uint64_t memory = 0;         // most that the worker ever had resident, in bytes
  double cpu_percent = 0, user_percent = 0, system_percent = 0;
  std::time_t start = 0, end = 0;
  std::function<std::optional<std::string_view>(std::string_view)> param; // %{name}e: a FastCGI parameter
  std::string_view head;                                                  // of the response, for %{name}o
  std::string_view tag;                                                   // request id
  double queue_seconds = 0;
  std::optional<double> first_byte_seconds; // from start to the worker's first byte
  std::optional<double> worker_age_seconds;
  std::string_view reason; // of an answer that tqfpm gave by itself
};

// What a format needs that costs something to know.
struct AccessNeeds {
  bool cpu = false;
  bool times = false; // user and system apart
  bool memory = false;
  bool head = false;
};

class AccessFormat {
public:
  // "json", or text with placeholders. Errors are said in php-fpm's words.
  static Result<AccessFormat> compile(std::string_view format);
  [[nodiscard]] const AccessNeeds &needs() const { return needs_; }
  // One line without the newline. Control characters, quotes and backslashes of values are shown as \xNN.
  [[nodiscard]] std::string line(const AccessRecord &record) const;

private:
  struct Part {
    char kind = 0;    // 0: literal text
    std::string text; // literal, or what stands in {}
  };
  static std::string check(const Part &part);
  void add(Part part);
  std::vector<Part> parts_;
  AccessNeeds needs_;
  bool json_ = false;
};

// A header of a CGI response's head; nullopt if it is not there.
std::optional<std::string_view> find_header(std::string_view head, std::string_view name);

} // namespace tqfpm::status
