#include "fcgi/script_path.h"

#include <strings.h>

#include <algorithm>

namespace tqfpm::fcgi {

std::string_view script_path(std::string_view script_filename) {
  for (const std::string_view prefix : {std::string_view("proxy:fcgi://"), std::string_view("proxy:balancer://")}) {
    if (script_filename.size() < prefix.size() ||
        ::strncasecmp(script_filename.data(), prefix.data(), prefix.size()) != 0)
      continue;
    const std::size_t slash = script_filename.find('/', prefix.size());
    if (slash == std::string_view::npos)
      return script_filename;
    const std::string_view path = script_filename.substr(slash);
    return path.substr(0, path.find('?'));
  }
  return script_filename;
}

std::string locked_script(std::string_view script, const std::vector<std::string> &folders) {
  if (script.empty())
    return "";
  if (script.front() != '/')
    return script.starts_with("./") ? std::string(script) : "./" + std::string(script);
  const std::size_t end = script.find('/', 1);
  const std::string folder(script.substr(1, end == std::string_view::npos ? end : end - 1));
  const bool known =
      end != std::string_view::npos && (folder == "." || std::binary_search(folders.begin(), folders.end(), folder));
  return known ? std::string(script) : "/." + std::string(script);
}

} // namespace tqfpm::fcgi
