#include "php/script_path.h"

#include <algorithm>

namespace tqfpm::php {

std::string locked_script(std::string_view script, const std::vector<std::string> &folders) {
  if (script.empty())
    return "";
  if (script.front() != '/')
    return script.starts_with("./") ? std::string(script) : "./" + std::string(script);
  script.remove_prefix(std::min(script.find_first_not_of('/'), script.size()) - 1); // "//srv": Apache sends such
  const std::size_t end = script.find('/', 1);
  const std::string folder(script.substr(1, end == std::string_view::npos ? end : end - 1));
  const bool known =
      end != std::string_view::npos && (folder == "." || std::binary_search(folders.begin(), folders.end(), folder));
  return known ? std::string(script) : "/." + std::string(script);
}

} // namespace tqfpm::php
