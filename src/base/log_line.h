// What a line of the error log looks like: php-fpm's text, or one JSON object. Pure: time and process are arguments.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>
#include <string_view>

namespace tqfpm {

enum class Level : std::uint8_t { kDebug, kNotice, kWarning, kError, kAlert }; // in the order of config::LogLevel
const char *name_of(Level level);

struct LogRecord {
  Level level = Level::kNotice;
  std::chrono::microseconds since_epoch{};
  int pid = 0;                // of the process that writes
  std::string_view text;      // perhaps with "[pool NAME] " in front
  const char *function = "?"; // where it was written, shown when debugging
  int line = 0;
  int child = 0;                // output of a worker: its pid, the stream's name, the pool
  std::string_view stream = {}; // "stdout", "stderr"; empty: a message of our own
  std::string_view pool = {};
};

// "[24-Nov-2026 10:00:00] NOTICE: "; when debugging with microseconds, process and place, as in php-fpm.
std::string text_head(const LogRecord &record, bool debugging);
// The record as php-fpm's line, without a newline and with safe() text. A worker's output is said to be one: `[pool
// www] child 5 said into stderr: "..."`.
std::string text_line(const LogRecord &record, bool debugging);
// `[pool www] child 5 said into stderr: `
std::string said_words(std::string_view pool, int child, std::string_view stream);
// The record as a JSON object with time, level, pool, pid and message, and for a worker's output child and stream.
// What is no UTF-8 is replaced.
std::string json_line(const LogRecord &record);

// A message for /dev/log: "<30>Nov 24 10:00:00 tqfpm[12]: text".
std::string syslog_message(int facility, const std::string &ident, const LogRecord &record, std::string_view text);
// The number of a facility (daemon, local0, LOG_USER ...); -1: there is none of that name.
int syslog_facility(std::string_view name);

} // namespace tqfpm
