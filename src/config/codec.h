// How the types of directives.def are read and written. A codec has
//   Value                                the type of the field
//   parse(Entry, Range, Value &)         an error text, or "" when `value` has been set
//   print(name, Value)                   lines of INI that parse() reads back to the same value; "" for an empty value
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "config/values.h"

namespace tqfpm::config {

// One "key = value" of a file, quotes and comments removed.
struct Entry {
  std::string key;                      // without [...]
  std::optional<std::string> array_key; // key[array_key]; "" for key[]
  std::string value;
  bool quoted = false;
};
struct Range {
  std::int64_t least = 0;
  std::int64_t most = 0;
};

// `text` in double quotes, so that the parser reads back exactly it.
std::string quote(const std::string &text);

namespace codec {

#define TQFPM_CODEC(NAME, VALUE, WORDS)                                                                                \
  struct NAME {                                                                                                        \
    using Value = VALUE;                                                                                               \
    static constexpr const char *kWords = WORDS; /* what a value looks like */                                         \
    static std::string parse(const Entry &entry, const Range &range, Value &value);                                    \
    static std::string print(const std::string &name, const Value &value);                                             \
  };
TQFPM_CODEC(String, std::string, "text")
TQFPM_CODEC(Path, std::string, "path")
TQFPM_CODEC(Integer, std::int64_t, "number")
TQFPM_CODEC(OptionalInteger, std::optional<std::int64_t>, "number")
TQFPM_CODEC(Boolean, bool, "yes | no")
TQFPM_CODEC(Octal, std::int64_t, "octal number")
TQFPM_CODEC(Time, Duration, "time: number with ms, s, m, h or d")
TQFPM_CODEC(Size, Bytes, "size: number with K, M or G")
TQFPM_CODEC(CoreLimit, std::optional<std::uint64_t>, "number | unlimited")
TQFPM_CODEC(ListenAddress, Address, "address")
TQFPM_CODEC(List, std::vector<std::string>, "list separated by commas")
TQFPM_CODEC(Words, std::vector<std::string>, "list separated by spaces")
TQFPM_CODEC(PathArray, std::vector<std::string>, "URI, several times with []")
TQFPM_CODEC(Settings, std::vector<KeyValue>, "[NAME] = text")
TQFPM_CODEC(Flags, std::vector<KeyValue>, "[NAME] = on | off")
TQFPM_CODEC(ManagerName, ProcessManagerKind, "static | dynamic | ondemand")
TQFPM_CODEC(SpawnName, SpawnMode, "fork | exec")
TQFPM_CODEC(WebValuesName, WebValuesPolicy, "all | user | refuse")
TQFPM_CODEC(LogFormatName, LogFormat, "text | json")
TQFPM_CODEC(Facility, std::string, "name of a syslog facility")
TQFPM_CODEC(LogLevelName, LogLevel, "debug | notice | warning | error | alert")
#undef TQFPM_CODEC

} // namespace codec

} // namespace tqfpm::config
