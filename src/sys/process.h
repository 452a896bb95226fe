// Running a program for its output.
#pragma once

#include <string>
#include <vector>

#include "base/clock.h"
#include "base/result.h"

namespace tqfpm::sys {

// What whoever started us has left open beyond the standard streams does not reach any child.
void protect_open_descriptors();

struct Output {
  int status = 0;   // of waitpid
  std::string text; // standard output and error
};
// Runs `path` with `arguments` (argv[0] first) and this process's environment less the variables `without`. Killed
// after `limit`; an error then.
Result<Output> run_program(const std::string &path, const std::vector<std::string> &arguments, Duration limit,
                           const std::vector<std::string> &without = {});

} // namespace tqfpm::sys
