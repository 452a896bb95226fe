// The commands of the program's command line; running the master is one of them.
#pragma once

namespace tqfpm::master {

// Exit codes, besides 0: 1 for a failure at run time, 64 for a wrong command line, 78 for a wrong configuration (as in
// <sysexits.h>).
inline constexpr int kExitUsage = 64;
inline constexpr int kExitConfig = 78;

int master_main(int argc, char **argv);

} // namespace tqfpm::master
