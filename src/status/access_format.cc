#include "status/access_format.h"

#include <fmt/format.h>

#include "base/text.h"

namespace tqfpm::status {

namespace {

constexpr std::string_view kKinds = "CdeflmMnopPqQrRstTu%";
constexpr std::string_view kDefaultTime = "%d/%b/%Y:%H:%M:%S %z";

bool known_unit(char kind, std::string_view unit) {
  if (kind == 'd')
    return unit.empty() || unit == "s" || unit == "seconds" || unit == "ms" || unit == "mili" ||
           unit == "milliseconds" || unit == "miliseconds" || unit == "us" || unit == "micro" || unit == "microseconds";
  if (kind == 'M')
    return unit.empty() || unit == "bytes" || unit == "kilo" || unit == "kilobytes" || unit == "mega" ||
           unit == "megabytes";
  if (kind == 'C')
    return unit.empty() || unit == "user" || unit == "system" || unit == "total";
  return true;
}

void append_or_dash(std::string &out, std::string_view value) {
  append_safe(out, value.empty() ? std::string_view("-") : value);
}

void append_time(std::string &out, std::string_view format, std::time_t when) {
  std::tm parts{};
  ::localtime_r(&when, &parts);
  char text[256];
  const std::string pattern(format.empty() ? kDefaultTime : format);
  out.append(text, std::strftime(text, sizeof text, pattern.c_str(), &parts));
}

std::string duration(std::string_view unit, double seconds) {
  if (unit.starts_with("mi") || unit == "ms")
    return unit.starts_with("mic") ? fmt::format("{:.0f}", seconds * 1e6) : fmt::format("{:.3f}", seconds * 1e3);
  if (unit == "us")
    return fmt::format("{:.0f}", seconds * 1e6);
  return fmt::format("{:.3f}", seconds);
}

std::string memory(std::string_view unit, std::uint64_t bytes) {
  const std::uint64_t divisor = unit.starts_with("kilo") ? 1024 : unit.starts_with("mega") ? 1024 * 1024 : 1;
  return std::to_string(bytes / divisor);
}

// Texts of the request, "-" where there is none.
std::string_view text_value(char kind, const std::string &name, const AccessRecord &record) {
  switch (kind) {
  case 'e':
    return record.param ? record.param(name) : std::string_view();
  case 'f':
    return record.script;
  case 'm':
    return record.method;
  case 'n':
    return record.pool;
  case 'o':
    return record.header ? record.header(name) : std::string_view();
  case 'r':
    return record.uri;
  case 'R':
    return record.peer;
  case 'u':
    return record.user;
  default:
    return {};
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
  case 'C':
    out += fmt::format("{:.2f}", record.cpu_percent);
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
  case 'q':
    append_safe(out, record.query);
    return;
  case 'Q':
    out += record.query.empty() ? "" : "?";
    return;
  case 's':
    out += std::to_string(record.status);
    return;
  case 't':
  case 'T':
    append_time(out, text, kind == 't' ? record.start : record.end);
    return;
  default:
    append_or_dash(out, text_value(kind, text, record));
  }
}

} // namespace

Result<AccessFormat> AccessFormat::compile(std::string_view format) {
  AccessFormat result;
  std::string literal;
  const auto flush = [&] {
    if (!literal.empty())
      result.parts_.push_back(Part{0, literal});
    literal.clear();
  };
  for (std::size_t i = 0; i < format.size(); ++i) {
    if (format[i] != '%') {
      literal += format[i];
      continue;
    }
    std::string argument;
    ++i;
    if (i < format.size() && format[i] == '{') {
      const std::size_t end = format.find('}', i);
      if (end == std::string_view::npos)
        return Error{"'{' without '}' in access.format"};
      argument = format.substr(i + 1, end - i - 1);
      i = end + 1;
    }
    if (i >= format.size())
      return Error{"access.format ends in the middle of a '%' placeholder"};
    const char kind = format[i];
    if (kKinds.find(kind) == std::string_view::npos)
      return Error{fmt::format("unknown placeholder '%{}' in access.format", kind)};
    if ((kind == 'e' || kind == 'o') && argument.empty())
      return Error{fmt::format("the placeholder '%{}' of access.format needs a name: %{{NAME}}{}", kind, kind)};
    if (!known_unit(kind, argument))
      return Error{fmt::format("unknown unit '{}' of '%{}' in access.format", argument, kind)};
    flush();
    result.parts_.push_back(Part{kind, argument});
  }
  flush();
  return result;
}

std::string AccessFormat::line(const AccessRecord &record) const {
  std::string out;
  for (const Part &part : parts_)
    append_value(out, part.kind, part.text, record);
  return out;
}

} // namespace tqfpm::status
