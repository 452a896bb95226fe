// AppArmor, through the files of the kernel's own interface (Documentation of "change_profile"): no library is needed.
#pragma once

#include <string>

#include "base/result.h"

namespace tqfpm::sys {

// The profile that confines this process, without its mode. Error: there is no AppArmor, or it cannot be asked.
Result<std::string> apparmor_profile();
// The folder of /proc/self/attr where AppArmor's files are; "" if there is no AppArmor.
std::string apparmor_folder();
// "/usr/sbin/x (enforce)\n" -> "/usr/sbin/x"
std::string apparmor_name(const std::string &text);

} // namespace tqfpm::sys
