// The error log of this process: lines as php-fpm's or JSON objects, to a descriptor or to syslog.
#pragma once

#include <fmt/format.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>

#include "base/log_line.h"
#include "sys/log_sink.h"

namespace tqfpm::sys {

using tqfpm::Level;

// A format string that knows where it is written.
template <typename... T> struct LogFormat {
  template <typename S>
  // NOLINTNEXTLINE(google-explicit-constructor): takes the place of a string literal
  consteval LogFormat(const S &literal, const char *name = __builtin_FUNCTION(), int number = __builtin_LINE())
      : text(literal), function(name), line(number) {}
  fmt::format_string<T...> text;
  const char *function;
  int line;
};
template <typename... T> using LogFormatOf = LogFormat<std::type_identity_t<T>...>;

class Log {
public:
  // Until take(), take_syslog(): lines are written to `fd` at once, waiting for it, as a command does that ends soon.
  // Standard error until told otherwise.
  void use(int fd) { direct_ = fd; }
  // From here on nothing waits: see LogSink.
  void take(Fd fd);
  void take_syslog(const std::string &ident, int facility);
  [[nodiscard]] int fd() const { return sink_.valid() ? sink_.fd() : direct_; }
  [[nodiscard]] bool is_syslog() const { return sink_.is_syslog(); }
  LogSink &sink() { return sink_; }
  void set_level(Level level) { level_ = level; }
  void set_json(bool on) { json_ = on; }
  // Called with the number of lines that were lost, besides the line that says so.
  void on_lost(LogSink::OnLost callback) { on_lost_ = std::move(callback); }
  // Besides the log also write lines of this level or a worse one to standard error: at the start, for the person who
  // started it.
  void set_echo(std::optional<Level> least);
  [[nodiscard]] bool wants(Level level) const { return level >= level_; }

  void line(Level level, std::string_view text, const char *function = __builtin_FUNCTION(),
            int number = __builtin_LINE());
  // What a worker has written, as a line of its own: "[pool www] child 5 said into stderr: "..."".
  void said(std::string_view pool, int child, std::string_view stream, std::string_view text);
  // The same without time, level and pool (in JSON it has them all the same). A newline is added. Neither lets a worker
  // begin a line of its own: see safe() in base/text.h.
  void plain(std::string_view pool, int child, std::string_view stream, std::string_view text);
  // Bytes of a line besides its text, the newline included.
  [[nodiscard]] std::size_t overhead() const;
  // Bytes of text that said() or plain() can take in a line of `limit` bytes; at least 1. A control character counts as
  // one byte.
  [[nodiscard]] std::size_t room(std::size_t limit, bool decorated, std::string_view pool, int child,
                                 std::string_view stream) const;

  template <typename... T> void debug(LogFormatOf<T...> format, T &&...args) {
    if (wants(Level::kDebug))
      line(Level::kDebug, fmt::format(format.text, std::forward<T>(args)...), format.function, format.line);
  }
  template <typename... T> void notice(LogFormatOf<T...> format, T &&...args) {
    line(Level::kNotice, fmt::format(format.text, std::forward<T>(args)...), format.function, format.line);
  }
  template <typename... T> void warning(LogFormatOf<T...> format, T &&...args) {
    line(Level::kWarning, fmt::format(format.text, std::forward<T>(args)...), format.function, format.line);
  }
  template <typename... T> void error(LogFormatOf<T...> format, T &&...args) {
    line(Level::kError, fmt::format(format.text, std::forward<T>(args)...), format.function, format.line);
  }
  template <typename... T> void alert(LogFormatOf<T...> format, T &&...args) {
    line(Level::kAlert, fmt::format(format.text, std::forward<T>(args)...), format.function, format.line);
  }

private:
  [[nodiscard]] LogRecord record(Level level, std::string_view text) const;
  [[nodiscard]] bool debugging() const { return level_ == Level::kDebug; }
  void put(const LogRecord &record, const std::string &text);
  void emit(const LogRecord &record);
  void lines_lost(std::uint64_t lines);

  LogSink sink_;
  std::unique_ptr<LogSink> echo_sink_;
  int direct_ = 2;
  std::string ident_;
  int facility_ = 0;
  Level level_ = Level::kNotice;
  bool json_ = false;
  std::optional<Level> echo_;
  LogSink::OnLost on_lost_;
};

// Now, as log lines have it.
std::string timestamp();

// This process's log.
Log &log();

} // namespace tqfpm::sys
