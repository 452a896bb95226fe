// The error log of this process: php-fpm's line format, one write() a line.
#pragma once

#include <fmt/format.h>

#include <optional>
#include <string>
#include <string_view>

#include "sys/fd.h"

namespace tqfpm::sys {

// In the order of config::LogLevel.
enum class Level { kDebug, kNotice, kWarning, kError, kAlert };

class Log {
public:
  // Lines go to `fd` (owned by the caller, or by take()). Standard error until told otherwise.
  void use(int fd) { fd_ = fd; }
  void take(Fd fd) {
    owned_ = std::move(fd);
    fd_ = owned_.get();
  }
  [[nodiscard]] int fd() const { return fd_; }
  void set_level(Level level) { level_ = level; }
  // Besides the log also write lines of this level or a worse one to standard error: at the start, for the person who
  // started it.
  void set_echo(std::optional<Level> least) { echo_ = least; }
  [[nodiscard]] bool wants(Level level) const { return level >= level_; }

  void line(Level level, std::string_view text);
  // Bytes of a line besides its text, the newline included.
  [[nodiscard]] std::size_t overhead(Level level) const;
  // Text of a worker, without time and level. A newline is added.
  void plain(std::string_view text);

  template <typename... T> void debug(fmt::format_string<T...> format, T &&...args) {
    if (wants(Level::kDebug))
      line(Level::kDebug, fmt::format(format, std::forward<T>(args)...));
  }
  template <typename... T> void notice(fmt::format_string<T...> format, T &&...args) {
    line(Level::kNotice, fmt::format(format, std::forward<T>(args)...));
  }
  template <typename... T> void warning(fmt::format_string<T...> format, T &&...args) {
    line(Level::kWarning, fmt::format(format, std::forward<T>(args)...));
  }
  template <typename... T> void error(fmt::format_string<T...> format, T &&...args) {
    line(Level::kError, fmt::format(format, std::forward<T>(args)...));
  }
  template <typename... T> void alert(fmt::format_string<T...> format, T &&...args) {
    line(Level::kAlert, fmt::format(format, std::forward<T>(args)...));
  }

private:
  [[nodiscard]] std::string head(Level level) const;
  void put(Level level, const std::string &text) const;
  Fd owned_;
  int fd_ = 2;
  Level level_ = Level::kNotice;
  std::optional<Level> echo_;
};

// Now, as log lines have it.
std::string timestamp();

// This process's log.
Log &log();

} // namespace tqfpm::sys
