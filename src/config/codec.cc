#include "config/codec.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/log_line.h"
#include "base/text.h"

namespace tqfpm::config {

std::string quote(const std::string &text) {
  std::string out = "\"";
  for (const char c : text) {
    if (c == '"' || c == '\\' || c == '$')
      out += '\\';
    out += c;
  }
  return out + "\"";
}

const char *name_of(ProcessManagerKind kind) {
  switch (kind) {
  case ProcessManagerKind::kStatic:
    return "static";
  case ProcessManagerKind::kDynamic:
    return "dynamic";
  case ProcessManagerKind::kOnDemand:
    return "ondemand";
  case ProcessManagerKind::kUnset:
    break;
  }
  return "";
}

namespace codec {

namespace {

std::string line(const std::string &name, const std::string &value) {
  return name + " = " + value + "\n";
}
std::string text_line(const std::string &name, const std::string &value) {
  return value.empty() ? "" : line(name, quote(value));
}

std::optional<bool> to_boolean(const std::string &text) {
  const std::string word = lower(text);
  if (word == "1" || word == "on" || word == "yes" || word == "true")
    return true;
  if (word.empty() || word == "0" || word == "off" || word == "no" || word == "false" || word == "none")
    return false;
  return std::nullopt;
}

std::string check_range(std::int64_t number, const Range &range) {
  if ((range.least != 0 || range.most != 0) && (number < range.least || number > range.most))
    return fmt::format("{} is out of range, {} to {} is possible", number, range.least, range.most);
  return "";
}

struct Choice {
  const char *name;
  int value;
};
template <typename T> std::string choose(const Entry &entry, std::initializer_list<Choice> choices, T &value) {
  std::string names;
  for (const Choice &choice : choices) {
    if (entry.value == choice.name) {
      value = static_cast<T>(choice.value);
      return "";
    }
    names += (names.empty() ? "" : ", ") + std::string(choice.name);
  }
  return fmt::format("'{}' is not possible, choose one of: {}", entry.value, names);
}

// `number` with a unit at its end, in multiples of the last unit of the list.
struct Unit {
  std::string_view name;
  std::int64_t factor;
};
std::optional<std::int64_t> with_unit(const std::string &text, std::initializer_list<Unit> units) {
  std::string_view digits = text;
  std::int64_t factor = 1;
  for (const Unit &unit : units) {
    if (digits.ends_with(unit.name)) {
      digits.remove_suffix(unit.name.size());
      factor = unit.factor;
      break;
    }
  }
  const auto number = to_number(trim(digits));
  std::int64_t product = 0;
  if (!number || *number < 0 || __builtin_mul_overflow(*number, factor, &product))
    return std::nullopt;
  return product;
}

std::string parse_port(const std::string &text, std::uint16_t &port) {
  const auto number = to_number(text);
  if (!number || *number < 1 || *number > 65535)
    return "invalid port value '" + text + "'";
  port = static_cast<std::uint16_t>(*number);
  return "";
}

} // namespace

std::string String::parse(const Entry &entry, const Range &, Value &value) {
  value = entry.value;
  return "";
}
std::string String::print(const std::string &name, const Value &value) {
  return text_line(name, value);
}

std::string Path::parse(const Entry &entry, const Range &, Value &value) {
  value = entry.value;
  return value.find('\0') != std::string::npos ? "a path with a null byte" : "";
}
std::string Path::print(const std::string &name, const Value &value) {
  return text_line(name, value);
}

std::string Integer::parse(const Entry &entry, const Range &range, Value &value) {
  const auto number = to_number(entry.value);
  if (!number)
    return fmt::format("'{}' is not a number", entry.value);
  value = *number;
  return check_range(value, range);
}
std::string Integer::print(const std::string &name, const Value &value) {
  return line(name, std::to_string(value));
}

std::string OptionalInteger::parse(const Entry &entry, const Range &range, Value &value) {
  if (entry.value.empty())
    return "";
  std::int64_t number = 0;
  std::string error = Integer::parse(entry, range, number);
  value = number;
  return error;
}
std::string OptionalInteger::print(const std::string &name, const Value &value) {
  return value ? line(name, std::to_string(*value)) : "";
}

std::string Boolean::parse(const Entry &entry, const Range &, Value &value) {
  const auto truth = to_boolean(entry.value);
  value = truth.value_or(false);
  return truth ? "" : fmt::format("'{}' is neither yes nor no", entry.value);
}
std::string Boolean::print(const std::string &name, const Value &value) {
  return line(name, value ? "yes" : "no");
}

std::string Octal::parse(const Entry &entry, const Range &range, Value &value) {
  const auto number = to_number(entry.value, 8);
  if (!number || *number < range.least || *number > range.most)
    return fmt::format("'{}' is no octal number of {:04o} to {:04o}", entry.value, range.least, range.most);
  value = *number;
  return "";
}
std::string Octal::print(const std::string &name, const Value &value) {
  return line(name, fmt::format("{:04o}", value));
}

std::string Time::parse(const Entry &entry, const Range &, Value &value) {
  const auto number =
      with_unit(entry.value, {{"ms", 1}, {"s", 1000}, {"m", 60000}, {"h", 3600000}, {"d", 86400000}, {"", 1000}});
  if (!number || *number > 86400000LL * 36500)
    return fmt::format("'{}' is no time: a number with ms, s, m, h or d", entry.value);
  value = Duration(*number);
  return "";
}
std::string Time::print(const std::string &name, const Value &value) {
  const auto count = value.count();
  return line(name, count % 1000 == 0 ? fmt::format("{}s", count / 1000) : fmt::format("{}ms", count));
}

std::string Size::parse(const Entry &entry, const Range &range, Value &value) {
  constexpr std::int64_t kKilo = 1024;
  const auto number = with_unit(entry.value, {{"K", kKilo},
                                              {"k", kKilo},
                                              {"M", kKilo * kKilo},
                                              {"m", kKilo * kKilo},
                                              {"G", kKilo * kKilo * kKilo},
                                              {"g", kKilo * kKilo * kKilo}});
  if (!number)
    return fmt::format("'{}' is no size: a number with K, M or G", entry.value);
  value.value = static_cast<std::uint64_t>(*number);
  return check_range(*number, range);
}
std::string Size::print(const std::string &name, const Value &value) {
  return line(name, std::to_string(value.value));
}

std::string CoreLimit::parse(const Entry &entry, const Range &, Value &value) {
  value.reset();
  if (entry.value.empty())
    return "";
  if (entry.value == "unlimited") {
    value = UINT64_MAX;
    return "";
  }
  const auto number = to_number(entry.value);
  if (!number || *number < 0)
    return fmt::format("'{}' is neither a number of bytes nor unlimited", entry.value);
  value = static_cast<std::uint64_t>(*number);
  return "";
}
std::string CoreLimit::print(const std::string &name, const Value &value) {
  if (!value)
    return "";
  return line(name, *value == UINT64_MAX ? "unlimited" : std::to_string(*value));
}

std::string ListenAddress::parse(const Entry &entry, const Range &, Value &value) {
  value = Address{};
  value.text = entry.value;
  if (entry.value.empty())
    return "";
  const std::size_t colon = entry.value.rfind(':');
  const bool digits = entry.value.find_first_not_of("0123456789") == std::string::npos;
  if (entry.value.find('/') != std::string::npos || (colon == std::string::npos && !digits)) {
    value.kind = Address::Kind::kUnix;
    value.path = entry.value;
    return "";
  }
  value.kind = Address::Kind::kTcp;
  if (colon == std::string::npos)
    return parse_port(entry.value, value.port);
  value.host = entry.value.substr(0, colon);
  if (value.host.starts_with('[') && value.host.ends_with(']'))
    value.host = value.host.substr(1, value.host.size() - 2);
  else if (value.host.find(':') != std::string::npos)
    return fmt::format("'{}': write an IPv6 address in brackets, as [::1]:9000", entry.value);
  if (value.host == "*")
    value.host.clear();
  return parse_port(entry.value.substr(colon + 1), value.port);
}
std::string ListenAddress::print(const std::string &name, const Value &value) {
  return text_line(name, value.kind == Address::Kind::kUnix ? value.path : value.text);
}

std::string List::parse(const Entry &entry, const Range &, Value &value) {
  value.clear();
  for (const std::string &part : split(entry.value, ",")) {
    if (const std::string_view word = trim(part); !word.empty())
      value.emplace_back(word);
  }
  return "";
}
std::string List::print(const std::string &name, const Value &value) {
  return text_line(name, join(value, ","));
}

std::string Words::parse(const Entry &entry, const Range &, Value &value) {
  value = split(entry.value, " \t");
  return "";
}
std::string Words::print(const std::string &name, const Value &value) {
  return line(name, quote(join(value, " "))); // an empty list is a choice, too: no limit
}

std::string PathArray::parse(const Entry &entry, const Range &, Value &value) {
  if (entry.array_key && !entry.array_key->empty())
    return "Keys provided to field '" + entry.key + "' are ignored";
  if (!entry.value.starts_with('/'))
    return "Values provided to field '" + entry.key + "' must begin with '/'";
  value.push_back(entry.value);
  return "";
}
std::string PathArray::print(const std::string &name, const Value &value) {
  std::string out;
  for (const std::string &each : value)
    out += line(name + "[]", quote(each));
  return out;
}

std::string Settings::parse(const Entry &entry, const Range &, Value &value) {
  if (!entry.array_key || entry.array_key->empty())
    return "You must provide a key for field '" + entry.key + "'";
  if (entry.array_key->find('\0') != std::string::npos || entry.value.find('\0') != std::string::npos)
    return "a null byte in the key or the value";
  const auto found =
      std::find_if(value.begin(), value.end(), [&](const KeyValue &each) { return each.key == *entry.array_key; });
  if (found != value.end())
    found->value = entry.value;
  else
    value.push_back({*entry.array_key, entry.value});
  return "";
}
std::string Settings::print(const std::string &name, const Value &value) {
  std::string out;
  for (const KeyValue &each : value)
    out += line(name + "[" + each.key + "]", quote(each.value));
  return out;
}

std::string Flags::parse(const Entry &entry, const Range &range, Value &value) {
  const auto truth = to_boolean(entry.value);
  if (!truth)
    return fmt::format("'{}' is neither on nor off", entry.value);
  Entry normal = entry;
  normal.value = *truth ? "1" : "0";
  return Settings::parse(normal, range, value);
}
std::string Flags::print(const std::string &name, const Value &value) {
  return Settings::print(name, value);
}

std::string ManagerName::parse(const Entry &entry, const Range &, Value &value) {
  if (entry.value.empty())
    return "";
  using Kind = ProcessManagerKind;
  return choose(entry,
                {{"static", int(Kind::kStatic)}, {"dynamic", int(Kind::kDynamic)}, {"ondemand", int(Kind::kOnDemand)}},
                value);
}
std::string ManagerName::print(const std::string &name, const Value &value) {
  return value == ProcessManagerKind::kUnset ? "" : line(name, name_of(value));
}

std::string SpawnName::parse(const Entry &entry, const Range &, Value &value) {
  return choose(entry, {{"fork", int(SpawnMode::kFork)}, {"exec", int(SpawnMode::kExec)}}, value);
}
std::string SpawnName::print(const std::string &name, const Value &value) {
  return line(name, value == SpawnMode::kFork ? "fork" : "exec");
}

std::string LogFormatName::parse(const Entry &entry, const Range &, Value &value) {
  return choose(entry, {{"text", int(LogFormat::kText)}, {"json", int(LogFormat::kJson)}}, value);
}
std::string LogFormatName::print(const std::string &name, const Value &value) {
  return line(name, value == LogFormat::kText ? "text" : "json");
}

std::string Facility::parse(const Entry &entry, const Range &, Value &value) {
  value = entry.value;
  return syslog_facility(value) >= 0 ? "" : fmt::format("'{}' is no facility of syslog", value);
}
std::string Facility::print(const std::string &name, const Value &value) {
  return text_line(name, value);
}

namespace {
constexpr const char *kPolicies[] = {"all", "user", "refuse"};
}
std::string WebValuesName::parse(const Entry &entry, const Range &, Value &value) {
  return choose(entry, {{kPolicies[0], 0}, {kPolicies[1], 1}, {kPolicies[2], 2}}, value);
}
std::string WebValuesName::print(const std::string &name, const Value &value) {
  return line(name, kPolicies[static_cast<int>(value)]);
}

namespace {
constexpr const char *kLevels[] = {"debug", "notice", "warning", "error", "alert"};
}
std::string LogLevelName::parse(const Entry &entry, const Range &, Value &value) {
  return choose(entry, {{kLevels[0], 0}, {kLevels[1], 1}, {kLevels[2], 2}, {kLevels[3], 3}, {kLevels[4], 4}}, value);
}
std::string LogLevelName::print(const std::string &name, const Value &value) {
  return line(name, kLevels[static_cast<int>(value)]);
}

} // namespace codec

} // namespace tqfpm::config
