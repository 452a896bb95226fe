// gperftools' CPU profiler, in builds WITH_PROFILER=1.
#pragma once

#include <string>

namespace tqfpm::sys {

// With TQFPM_PROFILE=FILE in the environment: writes this process's profile to FILE.<what>.<pid>. Call it while the
// file can still be created.
void profile_start(const std::string &what);
void profile_stop();

} // namespace tqfpm::sys
