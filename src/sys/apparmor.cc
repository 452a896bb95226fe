#include "sys/apparmor.h"

#include <cerrno>
#include <cstring>

#include "base/text.h"
#include "sys/files.h"

namespace tqfpm::sys {

// A kernel with several security modules has a folder for each; "attr/current" alone is then another one's, perhaps.
std::string apparmor_folder() {
  if (is_folder("/proc/self/attr/apparmor"))
    return "/proc/self/attr/apparmor";
  const auto enabled = read_file("/sys/module/apparmor/parameters/enabled");
  return enabled.ok() && enabled.value().starts_with('Y') ? "/proc/self/attr" : "";
}

std::string apparmor_name(const std::string &text) {
  std::string name(trim(text.substr(0, text.find('\0'))));
  if (const std::size_t mode = name.rfind(" ("); mode != std::string::npos && name.ends_with(')'))
    name.resize(mode);
  return name;
}

Result<std::string> apparmor_profile() {
  const std::string folder = apparmor_folder();
  if (folder.empty())
    return Error{"this kernel has no AppArmor", ENOENT};
  const auto text = read_file(folder + "/current");
  if (!text.ok())
    return text.error();
  const std::string name = apparmor_name(text.value());
  if (name.empty())
    return Error{folder + "/current is empty", EINVAL};
  return name;
}

} // namespace tqfpm::sys
