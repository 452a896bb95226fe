#include "base/log_line.h"

#include <fmt/format.h>
#include <syslog.h>

#include <array>
#include <ctime>
#include <nlohmann/json.hpp>
#include <utility>

#include "base/local_time.h"
#include "base/text.h"

namespace tqfpm {

namespace {

using std::chrono::microseconds;

std::string time_text(microseconds since_epoch, const char *format) {
  return local_time(static_cast<std::time_t>(since_epoch.count() / 1000000), format);
}

// 2026-11-24T10:00:00.123+01:00
std::string iso_time(microseconds since_epoch) {
  std::string zone = time_text(since_epoch, "%z");
  if (zone.size() == 5)
    zone.insert(3, ":");
  return fmt::format("{}.{:03}{}", time_text(since_epoch, "%Y-%m-%dT%H:%M:%S"), since_epoch.count() / 1000 % 1000,
                     zone);
}

int syslog_priority(Level level) {
  switch (level) {
  case Level::kDebug:
    return LOG_DEBUG;
  case Level::kNotice:
    return LOG_NOTICE;
  case Level::kWarning:
    return LOG_WARNING;
  case Level::kError:
    return LOG_ERR;
  case Level::kAlert:
    return LOG_ALERT;
  }
  return LOG_NOTICE;
}

// Of a lambda the compiler knows only "operator()".
std::string_view function_name(const char *function) {
  const std::string_view name = function;
  return name.find('(') == std::string_view::npos ? name : std::string_view("lambda");
}

constexpr std::array<std::pair<std::string_view, int>, 20> kFacilities = {{
    {"auth", LOG_AUTH},     {"authpriv", LOG_AUTHPRIV}, {"cron", LOG_CRON},     {"daemon", LOG_DAEMON},
    {"ftp", LOG_FTP},       {"kern", LOG_KERN},         {"lpr", LOG_LPR},       {"mail", LOG_MAIL},
    {"news", LOG_NEWS},     {"syslog", LOG_SYSLOG},     {"user", LOG_USER},     {"uucp", LOG_UUCP},
    {"local0", LOG_LOCAL0}, {"local1", LOG_LOCAL1},     {"local2", LOG_LOCAL2}, {"local3", LOG_LOCAL3},
    {"local4", LOG_LOCAL4}, {"local5", LOG_LOCAL5},     {"local6", LOG_LOCAL6}, {"local7", LOG_LOCAL7},
}};

} // namespace

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

std::string text_head(const LogRecord &record, bool debugging) {
  const std::string time = time_text(record.since_epoch, kLogTime);
  if (!debugging)
    return fmt::format("[{}] {}: ", time, name_of(record.level));
  return fmt::format("[{}.{:06}] {}: pid {}, {}(), line {}: ", time, record.since_epoch.count() % 1000000,
                     name_of(record.level), record.pid, function_name(record.function), record.line);
}

std::string said_words(std::string_view pool, int child, std::string_view stream) {
  return fmt::format("[pool {}] child {} said into {}: ", pool, child, stream);
}

std::string text_line(const LogRecord &record, bool debugging) {
  const std::string head = text_head(record, debugging);
  if (record.stream.empty())
    return head + safe(record.text);
  return fmt::format("{}{}\"{}\"", head, said_words(record.pool, record.child, record.stream), safe(record.text));
}

std::string json_line(const LogRecord &record) {
  constexpr std::string_view kPool = "[pool ";
  std::string_view pool = record.pool;
  std::string_view text = record.text;
  if (const std::size_t end = text.find("] "); pool.empty() && text.starts_with(kPool) && end != text.npos) {
    pool = text.substr(kPool.size(), end - kPool.size());
    text.remove_prefix(end + 2);
  }
  nlohmann::ordered_json object;
  object["time"] = iso_time(record.since_epoch);
  object["level"] = lower(name_of(record.level));
  if (!pool.empty())
    object["pool"] = std::string(pool);
  object["pid"] = record.pid;
  if (!record.stream.empty()) {
    object["child"] = record.child;
    object["stream"] = std::string(record.stream);
  }
  object["message"] = std::string(text);
  return object.dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace);
}

std::string syslog_message(int facility, const std::string &ident, const LogRecord &record, std::string_view text) {
  return fmt::format("<{}>{} {}[{}]: {}", facility | syslog_priority(record.level),
                     time_text(record.since_epoch, "%b %e %H:%M:%S"), ident, record.pid, text);
}

int syslog_facility(std::string_view name) {
  std::string word = lower(name);
  if (word.starts_with("log_"))
    word.erase(0, 4);
  for (const auto &[each, number] : kFacilities) {
    if (each == word)
      return number;
  }
  return -1;
}

} // namespace tqfpm
