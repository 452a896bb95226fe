// tqfpm: argv decides the role; everything else is in its folder.
#include <cstring>

#include "dispatcher/dispatcher.h"
#include "master/commands.h"
#include "master/options.h"
#include "sys/paths.h"

int main(int argc, char **argv) {
  tqfpm::sys::keep_title_area(argc, argv);
  const bool dispatcher = argc > 1 && std::strcmp(argv[1], "--dispatcher") == 0;
  if (!dispatcher)
    return tqfpm::master::master_main(argc, argv);
  argv[1] = argv[0];
  const auto options = tqfpm::master::parse_options(argc - 1, argv + 1);
  if (!options.ok())
    return tqfpm::kExitUsage;
  return tqfpm::dispatcher::dispatcher_main(options.value().php);
}
