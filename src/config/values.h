// The types that directives have.
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace tqfpm::config {

enum class ProcessManagerKind : std::uint8_t { kUnset, kStatic, kDynamic, kOnDemand };
enum class SpawnMode : std::uint8_t { kFork, kExec };
enum class WebValuesPolicy : std::uint8_t { kAll, kUser, kRefuse };
enum class LogFormat : std::uint8_t { kText, kJson };
enum class LogLevel : std::uint8_t { kDebug, kNotice, kWarning, kError, kAlert };
using Duration = std::chrono::milliseconds;

struct Bytes {
  std::uint64_t value = 0;
  bool operator==(const Bytes &) const = default;
};
struct KeyValue {
  std::string key;
  std::string value;
  bool operator==(const KeyValue &) const = default;
};
struct Location {
  std::string file;
  int line = 0;
  // Where a thing is written is no part of what it says: configurations are compared without it.
  bool operator==(const Location &) const { return true; }
};
struct Address {
  enum class Kind : std::uint8_t { kNone, kUnix, kTcp };
  Kind kind = Kind::kNone;
  std::string text; // as it is written
  std::string path; // kUnix
  std::string host; // kTcp; "" = any address
  std::uint16_t port = 0;
  bool operator==(const Address &) const = default;
};

const char *name_of(ProcessManagerKind kind);

} // namespace tqfpm::config
