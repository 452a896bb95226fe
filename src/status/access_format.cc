#include "status/access_format.h"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "base/local_time.h"
#include "base/text.h"

namespace tqfpm::status {

namespace {

constexpr std::string_view kKinds = "CdeflmMnopPqQrRstTux%";
constexpr std::string_view kTakeBraces = "CdeMotTx";

using Words = std::initializer_list<std::string_view>;
bool is_one_of(std::string_view text, Words words) {
  const std::string word = lower(text);
  return std::find(words.begin(), words.end(), word) != words.end();
}

// Our own placeholders: %{NAME}x, for times %{NAME:UNIT}x.
struct Own {
  std::string_view name;
  std::string_view unit;
};
Own own(std::string_view text) {
  const std::size_t colon = text.find(':');
  return {text.substr(0, colon), colon == std::string_view::npos ? std::string_view() : text.substr(colon + 1)};
}
bool is_time(const Own &placeholder) {
  return is_one_of(placeholder.name, {"queue_wait", "ttfb", "age"});
}

// Text from a client must not be able to forge a line, or a field of one.
void append_field(std::string &out, std::string_view value) {
  append_safe(out, value, "\"\\\t");
}

void append_or_dash(std::string &out, std::string_view value) {
  append_field(out, value.empty() ? std::string_view("-") : value);
}

void append_time(std::string &out, std::string_view format, std::time_t when) {
  out += local_time(when, std::string(format.empty() ? kAccessTime : format).c_str());
}

std::string duration(std::string_view unit, double seconds) {
  const std::string word = lower(unit);
  if (word.starts_with("micro") || word == "us")
    return fmt::format("{:.0f}", seconds * 1e6);
  return fmt::format("{:.3f}", word.starts_with("mil") || word == "ms" ? seconds * 1e3 : seconds);
}

std::string memory(std::string_view unit, std::uint64_t bytes) {
  const std::string word = lower(unit);
  const std::uint64_t divisor = word.starts_with("kilo") ? 1024 : word.starts_with("mega") ? 1024 * 1024 : 1;
  return std::to_string(bytes / divisor);
}

double cpu(std::string_view which, const AccessRecord &record) {
  const std::string word = lower(which);
  return word == "user" ? record.user_percent : word == "system" ? record.system_percent : record.cpu_percent;
}

void append_own(std::string &out, std::string_view text, const AccessRecord &record) {
  const Own placeholder = own(text);
  const std::string name = lower(placeholder.name);
  if (name == "id")
    append_or_dash(out, record.tag);
  else if (name == "why")
    append_or_dash(out, record.reason);
  else if (name == "queue_wait")
    out += duration(placeholder.unit, record.queue_seconds);
  else if (const auto &time = name == "ttfb" ? record.first_byte_seconds : record.worker_age_seconds)
    out += duration(placeholder.unit, *time);
  else
    out += '-';
}

void append_number(std::string &out, char kind, const std::string &text, const AccessRecord &record) {
  switch (kind) {
  case 'C':
    out += fmt::format("{:.2f}", cpu(text, record));
    return;
  case 'd':
    out += duration(text, record.seconds);
    return;
  case 'l':
    out += std::to_string(record.content_length);
    return;
  case 'M':
    out += memory(text, record.memory);
    return;
  case 'p':
  case 'P':
    out += std::to_string(kind == 'p' ? record.pid : record.parent_pid);
    return;
  case 's':
    out += std::to_string(record.status);
    return;
  default: // t, T
    append_time(out, text, kind == 't' ? record.start : record.end);
  }
}

void append_value(std::string &out, char kind, const std::string &text, const AccessRecord &record) {
  switch (kind) {
  case 0:
    out += text;
    return;
  case '%':
    out += '%';
    return;
  case 'e':
    append_field(out, (record.param ? record.param(text) : std::nullopt).value_or("-"));
    return;
  case 'f':
    append_or_dash(out, record.script);
    return;
  case 'm':
    append_or_dash(out, record.method);
    return;
  case 'n':
    append_or_dash(out, record.pool);
    return;
  case 'o':
    append_field(out, find_header(record.head, text).value_or("-"));
    return;
  case 'q':
    append_field(out, record.query);
    return;
  case 'Q':
    out += record.query.empty() ? "" : "?";
    return;
  case 'r':
    append_field(out, record.uri);
    return;
  case 'R':
    append_or_dash(out, record.peer);
    return;
  case 'u':
    append_field(out, record.user);
    return;
  case 'x':
    append_own(out, text, record);
    return;
  default:
    append_number(out, kind, text, record);
  }
}

// A ready-made object: what a log collector usually wants, nothing that is costly to know.
std::string json(const AccessRecord &record) {
  nlohmann::ordered_json object;
  const auto text = [&object](const char *name, std::string_view value) {
    if (!value.empty())
      object[name] = std::string(value);
  };
  const auto rounded = [](double seconds) { return std::stod(fmt::format("{:.6f}", seconds)); };
  std::string time;
  append_time(time, "%Y-%m-%dT%H:%M:%S%z", record.start);
  if (time.size() > 2)
    time.insert(time.size() - 2, ":");
  text("time", time);
  text("pool", record.pool);
  text("id", record.tag);
  text("client", record.peer);
  text("user", record.user);
  text("method", record.method);
  text("uri", record.uri);
  text("query", record.query);
  text("script", record.script);
  object["status"] = record.status;
  object["length"] = record.content_length;
  object["duration"] = rounded(record.seconds);
  object["queue_wait"] = rounded(record.queue_seconds);
  if (record.first_byte_seconds)
    object["ttfb"] = rounded(*record.first_byte_seconds);
  object["cpu"] = std::stod(fmt::format("{:.2f}", record.cpu_percent));
  object["pid"] = record.pid;
  if (record.worker_age_seconds)
    object["age"] = rounded(*record.worker_age_seconds);
  text("why", record.reason);
  return object.dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace);
}

} // namespace

std::optional<std::string_view> find_header(std::string_view head, std::string_view name) {
  while (!head.empty()) {
    const std::string_view line = head.substr(0, head.find('\n'));
    head.remove_prefix(std::min(line.size() + 1, head.size()));
    const std::size_t colon = line.find(':');
    if (colon != std::string_view::npos && lower(line.substr(0, colon)) == lower(name))
      return trim(line.substr(colon + 1));
  }
  return std::nullopt;
}

// An error text, or "".
std::string AccessFormat::check(const Part &part) {
  const char kind = part.kind;
  const std::string_view text = part.text;
  if (kKinds.find(kind) == std::string_view::npos)
    return fmt::format("Invalid token in the access.format (%{})", kind);
  if (kind == 'e' && text.empty())
    return "the name of the environment variable must be set between embraces for %e";
  if (kind == 'o' && text.empty())
    return "the name of the header must be set between embraces for %o";
  if (kTakeBraces.find(kind) == std::string_view::npos && !text.empty())
    return fmt::format("embrace is not allowed for modifier %{}", kind);
  if (kind == 'C' && !is_one_of(text, {"", "total", "user", "system"}))
    return fmt::format("only 'total', 'user' or 'system' are allowed as a modifier for %C ('{}')", text);
  if (kind == 'd' && !is_one_of(text, {"", "seconds", "s", "milliseconds", "milli", "miliseconds", "mili", "ms",
                                       "microseconds", "micro", "us"}))
    return fmt::format(
        "only 'seconds', 'milli', 'milliseconds', 'micro' or 'microseconds' are allowed as a modifier for "
        "%d ('{}')",
        text);
  if (kind == 'M' && !is_one_of(text, {"", "bytes", "kilobytes", "kilo", "megabytes", "mega"}))
    return fmt::format("only 'bytes', 'kilo', 'kilobytes', 'mega' or 'megabytes' are allowed as a modifier for %M "
                       "('{}')",
                       text);
  const Own placeholder = own(text);
  if (kind == 'x' && !is_time(placeholder) && !(is_one_of(text, {"id", "why"})))
    return fmt::format("only id, why, queue_wait, ttfb and age are possible in %{{...}}x ('{}')", text);
  if (kind == 'x' && !is_one_of(placeholder.unit, {"", "s", "ms", "us"}))
    return fmt::format("only s, ms and us are possible as the unit of a time in %{{...}}x ('{}')", text);
  return "";
}

void AccessFormat::add(Part part) {
  const std::string word = lower(part.text);
  needs_.times = needs_.times || (part.kind == 'C' && (word == "user" || word == "system"));
  needs_.cpu = needs_.cpu || (part.kind == 'C' && word != "user" && word != "system");
  needs_.memory = needs_.memory || part.kind == 'M';
  needs_.head = needs_.head || part.kind == 'o';
  parts_.push_back(std::move(part));
}

Result<AccessFormat> AccessFormat::compile(std::string_view format) {
  AccessFormat result;
  result.json_ = format == "json";
  result.needs_.cpu = result.json_;
  std::string literal;
  for (std::size_t i = 0; i < format.size(); ++i) {
    if (format[i] != '%') {
      literal += format[i];
      continue;
    }
    Part part;
    ++i;
    if (i < format.size() && format[i] == '{') {
      const std::size_t end = format.find('}', i);
      if (end == std::string_view::npos || end + 1 == format.size())
        return Error{"missing closing embrace in the access.format"};
      part.text = format.substr(i + 1, end - i - 1);
      i = end + 1;
    }
    if (i >= format.size())
      return Error{"it ends in the middle of a placeholder"};
    part.kind = format[i];
    if (const std::string error = check(part); !error.empty())
      return Error{error};
    if (!literal.empty())
      result.add(Part{0, std::exchange(literal, "")});
    result.add(std::move(part));
  }
  if (!literal.empty())
    result.add(Part{0, literal});
  return result;
}

std::string AccessFormat::line(const AccessRecord &record) const {
  if (json_)
    return json(record);
  std::string out;
  for (const Part &part : parts_)
    append_value(out, part.kind, part.text, record);
  return out;
}

} // namespace tqfpm::status
