// The chain of calls that a running PHP script is in.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "trace/engine.h"
#include "trace/memory.h"

namespace tqfpm::trace {

struct Position {
  std::string file;
  std::uint32_t line = 0; // 0: not known
};

struct Frame {
  Address address = 0;               // of its zend_execute_data
  std::string function;              // "name", "Class->name", "Class::name", "[INCLUDE_OR_EVAL]", "???"
  std::optional<Position> called_at; // none: not from PHP code
};

struct Trace {
  std::vector<Frame> frames;       // innermost first; the script's own code, the outermost, is none
  std::optional<Position> running; // the PHP code that is being run, or that has called what is
  std::string trouble;             // why there are no more frames than these; empty: there are none
};

// At most `depth` frames. PHP goes on while it is read, and a script may have written anything there: what does not
// look right ends the walk or is "???", and every count and length has a limit.
Trace walk(Memory &memory, const Engine &engine, std::size_t depth);

// As php-fpm writes it to its slow log, at most `room` bytes of whole lines: "running = FILE:LINE", then
// "[0xADDRESS] FUNCTION() FILE:LINE" for each frame. Says in `trouble` when it did not fit.
std::string text_of(Trace &trace, std::size_t room);

} // namespace tqfpm::trace
