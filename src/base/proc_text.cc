#include "base/proc_text.h"

#include <algorithm>

#include "base/text.h"

namespace tqfpm {

namespace {

constexpr std::size_t kMostImages = 1024;

// Takes a word and the separator behind it off the front.
std::string_view next_part(std::string_view &text, char separator) {
  const std::size_t end = std::min(text.find(separator), text.size());
  const std::string_view part = text.substr(0, end);
  text.remove_prefix(std::min(end + 1, text.size()));
  return part;
}

} // namespace

std::optional<MemoryUse> memory_of_statm(std::string_view statm, std::uint64_t page_size) {
  (void)next_part(statm, ' '); // size
  const auto resident = to_number(next_part(statm, ' '));
  const auto shared = to_number(next_part(statm, ' '));
  if (!resident || !shared || *resident < 0 || *shared < 0)
    return std::nullopt;
  return MemoryUse{static_cast<std::uint64_t>(*resident) * page_size, static_cast<std::uint64_t>(*shared) * page_size};
}

std::optional<MemoryShare> memory_of_rollup(std::string_view rollup) {
  std::optional<std::int64_t> resident;
  std::optional<std::int64_t> proportional;
  while (!rollup.empty()) {
    const auto fields = split(next_part(rollup, '\n'), " \t");
    if (fields.size() == 3 && fields[0] == "Rss:")
      resident = to_number(fields[1]);
    else if (fields.size() == 3 && fields[0] == "Pss:")
      proportional = to_number(fields[1]);
  }
  if (!resident || !proportional)
    return std::nullopt;
  return MemoryShare{static_cast<std::uint32_t>(*resident), static_cast<std::uint32_t>(*proportional)};
}

std::uint64_t peak_of_status(std::string_view status) {
  constexpr std::string_view kName = "\nVmHWM:";
  const std::size_t at = status.find(kName);
  if (at == std::string_view::npos)
    return 0;
  const auto words = split(status.substr(at + kName.size(), 40), " \t\n");
  const auto kilobytes = words.empty() ? std::nullopt : to_number(words[0]);
  return kilobytes && *kilobytes > 0 ? static_cast<std::uint64_t>(*kilobytes) * 1024 : 0;
}

std::optional<CpuTicks> cpu_of_stat(std::string_view stat) {
  const std::size_t name_end = stat.rfind(')'); // the name may have anything in it
  if (name_end == std::string_view::npos)
    return std::nullopt;
  constexpr std::size_t kUser = 11; // fields 14 and 15 of proc(5), counted from the state
  const auto fields = split(stat.substr(name_end + 1), " \n");
  const auto user = fields.size() > kUser + 1 ? to_number(fields[kUser]) : std::nullopt;
  const auto system = fields.size() > kUser + 1 ? to_number(fields[kUser + 1]) : std::nullopt;
  return user && system ? std::optional(CpuTicks{*user, *system}) : std::nullopt;
}

// 55d0c0a00000-55d0c0ae0000 r--p 00000000 fe:01 12345    /usr/bin/php-cgi8.2
std::vector<std::uint64_t> image_bases(std::string_view maps) {
  std::vector<std::uint64_t> bases;
  while (!maps.empty() && bases.size() < kMostImages) {
    const auto fields = split(next_part(maps, '\n'), " ");
    if (fields.size() < 6 || !fields[1].starts_with("r") || !fields[5].starts_with("/"))
      continue;
    const auto offset = to_number(fields[2], 16);
    const auto base = to_number(fields[0].substr(0, fields[0].find('-')), 16);
    if (base && offset == 0)
      bases.push_back(static_cast<std::uint64_t>(*base));
  }
  return bases;
}

} // namespace tqfpm
