// The commands of the program's command line; running the master is one of them.
#pragma once

#include "base/exit_codes.h"

namespace tqfpm::master {

// Returns an exit code.
int master_main(int argc, char **argv);

} // namespace tqfpm::master
