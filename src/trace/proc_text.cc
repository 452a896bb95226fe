#include "trace/proc_text.h"

#include <algorithm>

#include "base/text.h"

namespace tqfpm::trace {

namespace {

constexpr std::size_t kMostImages = 1024;

std::string_view next_line(std::string_view &text) {
  const std::size_t end = std::min(text.find('\n'), text.size());
  const std::string_view line = text.substr(0, end);
  text.remove_prefix(std::min(end + 1, text.size()));
  return line;
}

} // namespace

// 55d0c0a00000-55d0c0ae0000 r--p 00000000 fe:01 12345    /usr/bin/php-cgi8.2
std::vector<Address> image_bases(std::string_view maps) {
  std::vector<Address> bases;
  while (!maps.empty() && bases.size() < kMostImages) {
    const auto fields = split(next_line(maps), " ");
    if (fields.size() < 6 || !fields[1].starts_with("r") || !fields[5].starts_with("/"))
      continue;
    const auto offset = to_number(fields[2], 16);
    const auto base = to_number(fields[0].substr(0, fields[0].find('-')), 16);
    if (base && offset == 0)
      bases.push_back(static_cast<Address>(*base));
  }
  return bases;
}

std::optional<MemoryUse> memory_use(std::string_view rollup) {
  std::optional<std::int64_t> resident;
  std::optional<std::int64_t> proportional;
  while (!rollup.empty()) {
    const auto fields = split(next_line(rollup), " \t");
    if (fields.size() == 3 && fields[0] == "Rss:")
      resident = to_number(fields[1]);
    else if (fields.size() == 3 && fields[0] == "Pss:")
      proportional = to_number(fields[1]);
  }
  if (!resident || !proportional)
    return std::nullopt;
  return MemoryUse{static_cast<std::uint32_t>(*resident), static_cast<std::uint32_t>(*proportional)};
}

} // namespace tqfpm::trace
