#include "php/script_path.h"

#include <algorithm>
#include <cctype>

namespace tqfpm::php {

namespace {
// A system has about twenty folders in its root. The kernel takes 2 MiB of arguments and environment, and a web
// server's settings may come to the pool's own.
constexpr std::size_t kMostSections = 32;
constexpr std::size_t kMostBytes = 512UL * 1024;
constexpr std::size_t kMostName = 255;
} // namespace

bool is_section_name(std::string_view folder) {
  return !folder.empty() && folder.size() <= kMostName &&
         std::all_of(folder.begin(), folder.end(),
                     [](unsigned char c) { return std::isalnum(c) != 0 || c == '.' || c == '_' || c == '-'; });
}

std::vector<std::string> section_folders(const std::vector<std::string> &folders, std::size_t section_bytes) {
  const std::size_t most = std::min(kMostSections, kMostBytes / (section_bytes + kMostName));
  std::vector<std::string> chosen;
  for (const std::string &each : folders) {
    if (chosen.size() < most && is_section_name(each) && each != ".") // "/." has one anyway
      chosen.push_back(each);
  }
  return chosen;
}

std::string locked_script(std::string_view script, const std::vector<std::string> &folders) {
  if (script.empty())
    return "";
  if (script.front() != '/')
    return script.starts_with("./") ? std::string(script) : "./" + std::string(script);
  script.remove_prefix(std::min(script.find_first_not_of('/'), script.size()) - 1); // "//srv": Apache sends such
  const std::size_t end = script.find('/', 1);
  const std::string folder(script.substr(1, end == std::string_view::npos ? end : end - 1));
  const bool known = end != std::string_view::npos && is_section_name(folder) &&
                     (folder == "." || std::binary_search(folders.begin(), folders.end(), folder));
  return known ? std::string(script) : "/." + std::string(script);
}

} // namespace tqfpm::php
