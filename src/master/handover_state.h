// The state that the master hands to its next image, as text: pure, since what comes from another image of the program,
// older or newer, is checked like any input.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace tqfpm::master {

// A descriptor that stays open, and what it is.
struct StateEntry {
  enum class Kind : std::uint8_t {
    kConfig,    // a dump of the configuration
    kProcesses, // status::ProcessBoard
    kSocket,    // `text`: its address
    kGiven,     // the same; its file is not ours
    kBoard,     // a scoreboard; `text`: its pool
    kGeneration,
    kUnknown, // of another version, or a generation that makes no sense: nothing is known but the descriptor
  };
  Kind kind = Kind::kUnknown;
  int fd = -1;
  std::string text; // kGeneration: its pool
  // kGeneration:
  pid_t pid = -1;
  unsigned number = 0;
  int phase = 0; // below kPhases
  static constexpr int kPhases = 3;
  bool operator==(const StateEntry &) const = default;
};

std::string state_text(const std::vector<StateEntry> &entries);
// Lines without a descriptor of their own are left out: standard ones, and those that have been named before (they
// would be closed twice). A generation's process is never one that a signal could not be sent to alone.
std::vector<StateEntry> parse_state(std::string_view text);

} // namespace tqfpm::master
