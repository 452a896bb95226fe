// INI text to entries: php-fpm's syntax, read by libinih behind a reader that removes libinih's limits (lines of 199
// bytes, no line numbers, no empty sections, ';' inside quotes).
//
// Syntax: [section]; key = value; key[x] = value; key[] = value. ';' and, at the start of a line, '#' begin a comment.
// Values: bare words to the end of the line; "..." with \" \\ \$ inside; '...' as it is; quoted ones may take several
// lines. ${NAME} outside of '...' is
// replaced by the environment's value.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "config/codec.h"

namespace tqfpm::config {

struct IniItem {
  enum class Kind : std::uint8_t { kSection, kEntry, kError };
  Kind kind = Kind::kEntry;
  int line = 0;
  std::string section; // kSection: its name
  Entry entry;         // kEntry
  std::string error;   // kError
};

using Environment = std::function<std::optional<std::string>(const std::string &)>;

// The items of a whole file in order. Time and memory are linear in the text, whatever it says.
std::vector<IniItem> read_ini(std::string_view text, const Environment &environment);

} // namespace tqfpm::config
