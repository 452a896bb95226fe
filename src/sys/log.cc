#include "sys/log.h"

#include <unistd.h>

#include <cerrno>
#include <ctime>

namespace tqfpm::sys {

namespace {

const char *name_of(Level level) {
  switch (level) {
  case Level::kDebug:
    return "DEBUG";
  case Level::kNotice:
    return "NOTICE";
  case Level::kWarning:
    return "WARNING";
  case Level::kError:
    return "ERROR";
  case Level::kAlert:
    return "ALERT";
  }
  return "?";
}

// A log that is full or gone must not stop the work: what cannot be written is lost.
void write_all(int fd, std::string_view text) {
  while (!text.empty()) {
    const ssize_t written = ::write(fd, text.data(), text.size());
    if (written < 0 && errno == EINTR)
      continue;
    if (written <= 0)
      return;
    text.remove_prefix(static_cast<std::size_t>(written));
  }
}

} // namespace

std::string timestamp() {
  const std::time_t now = std::time(nullptr);
  std::tm parts{};
  ::localtime_r(&now, &parts);
  char text[32];
  return {text, std::strftime(text, sizeof text, "%d-%b-%Y %H:%M:%S", &parts)};
}

Log &log() {
  static Log instance;
  return instance;
}

void Log::put(Level level, const std::string &text) const {
  write_all(fd_, text);
  if (echo_ && level >= *echo_ && fd_ != STDERR_FILENO)
    write_all(STDERR_FILENO, text);
}

std::string Log::head(Level level) const {
  if (level_ == Level::kDebug)
    return fmt::format("[{}] {}: pid {}, ", timestamp(), name_of(level), ::getpid());
  return fmt::format("[{}] {}: ", timestamp(), name_of(level));
}

std::size_t Log::overhead(Level level) const {
  return head(level).size() + 1;
}

void Log::line(Level level, std::string_view text) {
  if (wants(level))
    put(level, head(level).append(text).append("\n"));
}

void Log::plain(std::string_view text) {
  put(Level::kNotice, std::string(text) + "\n");
}

} // namespace tqfpm::sys
