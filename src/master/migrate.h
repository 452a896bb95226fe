// tqfpm --migrate: php-fpm's configuration becomes one of tqfpm's.
#pragma once

#include "master/options.h"

namespace tqfpm::master {

// Writes the files and prints the report. The exit code: 0 when what was written loads without errors.
int migrate(const Options &options);

} // namespace tqfpm::master
