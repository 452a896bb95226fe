#include "fcgi/script_path.h"

#include <strings.h>

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

} // namespace tqfpm::fcgi
