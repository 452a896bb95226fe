// What the program's exit codes mean, besides 0: 1 is a failure at run time, the others are as in <sysexits.h>.
#pragma once

namespace tqfpm {

inline constexpr int kExitUsage = 64;  // a wrong command line
inline constexpr int kExitConfig = 78; // a wrong configuration

} // namespace tqfpm
