#include "sys/log.h"

#include <poll.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <ctime>

#include "base/local_time.h"
#include "base/text.h"

namespace tqfpm::sys {

namespace {

// For a command: its output is not lost because the reader is slow.
void write_all(int fd, std::string_view text) {
  while (!text.empty()) {
    const ssize_t written = ::write(fd, text.data(), text.size());
    if (written < 0 && errno == EINTR)
      continue;
    if (written < 0 && errno == EAGAIN) {
      pollfd state{fd, POLLOUT, 0};
      if (::poll(&state, 1, 1000) <= 0)
        return;
      continue;
    }
    if (written <= 0)
      return;
    text.remove_prefix(static_cast<std::size_t>(written));
  }
}

} // namespace

std::string timestamp() {
  return local_time(std::time(nullptr), kLogTime);
}

Log &log() {
  static Log instance;
  return instance;
}

void Log::take(Fd fd) {
  sink_.on_lost([this](std::uint64_t lines) { lines_lost(lines); });
  sink_.take(std::move(fd));
}

void Log::take_syslog(const std::string &ident, int facility) {
  ident_ = ident;
  facility_ = facility;
  sink_.on_lost([this](std::uint64_t lines) { lines_lost(lines); });
  sink_.take_syslog();
}

void Log::set_echo(std::optional<Level> least) {
  echo_ = least;
  if (!least || echo_sink_ != nullptr) {
    echo_sink_.reset();
    return;
  }
  echo_sink_ = std::make_unique<LogSink>();
  echo_sink_->take(own_description(STDERR_FILENO));
}

void Log::lines_lost(std::uint64_t lines) {
  // Whatever the level: who looks for a line must know that it may be missing.
  const std::string text = fmt::format("{} log lines were lost, the log could not be written", lines);
  emit(record(Level::kWarning, text));
  if (on_lost_)
    on_lost_(lines);
}

LogRecord Log::record(Level level, std::string_view text) const {
  LogRecord record;
  record.level = level;
  record.since_epoch =
      std::chrono::duration_cast<std::chrono::microseconds>(std::chrono::system_clock::now().time_since_epoch());
  record.pid = ::getpid();
  record.text = text;
  record.function = "log";
  return record;
}

void Log::put(const LogRecord &record, const std::string &text) {
  if (sink_.is_syslog())
    sink_.write(syslog_message(facility_, ident_, record, text));
  else if (sink_.valid())
    sink_.write(text + "\n");
  else
    write_all(direct_, text + "\n");
}

void Log::emit(const LogRecord &record) {
  const std::string text = text_line(record, debugging());
  if (json_)
    put(record, json_line(record));
  else if (sink_.is_syslog()) // it has time and process of its own
    put(record, fmt::format("[{}] {}", name_of(record.level), text.substr(text_head(record, debugging()).size())));
  else
    put(record, text);
  if (echo_ && record.level >= *echo_ && record.stream.empty() && fd() != STDERR_FILENO)
    echo_sink_->write(text + "\n");
}

void Log::line(Level level, std::string_view text, const char *function, int number) {
  if (!wants(level))
    return;
  LogRecord whole = record(level, text);
  whole.function = function;
  whole.line = number;
  emit(whole);
}

void Log::said(std::string_view pool, int child, std::string_view stream, std::string_view text) {
  if (!wants(Level::kWarning))
    return;
  LogRecord whole = record(Level::kWarning, text);
  whole.pool = pool;
  whole.child = child;
  whole.stream = stream;
  emit(whole);
}

void Log::plain(std::string_view pool, int child, std::string_view stream, std::string_view text) {
  if (json_) {
    said(pool, child, stream, text);
    return;
  }
  std::string line;
  // A null byte stays, as in php-fpm's plain lines: it ends no line and does nothing to a terminal.
  for (std::size_t at = 0; at <= text.size();) {
    const std::size_t end = std::min(text.find('\0', at), text.size());
    append_safe(line, text.substr(at, end - at));
    if (end < text.size())
      line += '\0';
    at = end + 1;
  }
  put(record(Level::kWarning, text), line);
}

std::size_t Log::overhead() const {
  return json_ ? 1 : text_head(record(Level::kWarning, ""), debugging()).size() + 1;
}

std::size_t Log::room(std::size_t limit, bool decorated, std::string_view pool, int child,
                      std::string_view stream) const {
  std::size_t used = 1; // the newline
  if (decorated && !json_)
    used = overhead() + said_words(pool, child, stream).size() + 2;
  return used < limit ? limit - used : 1;
}

} // namespace tqfpm::sys
