// Where things are: beside the program when it runs uninstalled, else where `make install` has put them.
#pragma once

#include <optional>
#include <string>

namespace tqfpm::sys {

extern const char *const kVersion;
extern const char *const kDefaultErrorLog; // localstatedir/log/tqfpm.log

std::string default_config(); // sysconfdir/tqfpm.conf; uninstalled: etc/tqfpm.conf beside the program
std::string default_prefix(); // that of the installation; uninstalled: the program's folder

// The running program, symbolic links resolved; "" if the kernel does not tell.
std::string program_path();
// A file of tqfpm: in the program's folder, else in the library folder of the installation.
std::optional<std::string> find_library(const std::string &name);
// What ps shows for this process. `argv` is main's; call it once before anything else so that the area is known.
void keep_title_area(int argc, char **argv);
void set_title(const std::string &title);

} // namespace tqfpm::sys
