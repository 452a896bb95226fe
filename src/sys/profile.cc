#include "sys/profile.h"

#ifdef TQFPM_WITH_PROFILER
#include <gperftools/profiler.h>
#include <unistd.h>

#include <cstdlib>
#endif

namespace tqfpm::sys {

#ifdef TQFPM_WITH_PROFILER

void profile_start(const std::string &what) {
  const char *file = std::getenv("TQFPM_PROFILE");
  if (file != nullptr)
    (void)::ProfilerStart((std::string(file) + "." + what + "." + std::to_string(::getpid())).c_str());
}
void profile_stop() {
  ::ProfilerStop();
}

#else

void profile_start(const std::string &) {}
void profile_stop() {}

#endif

} // namespace tqfpm::sys
