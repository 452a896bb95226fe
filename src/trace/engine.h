// PHP's engine in a running php-cgi: where its state is, and how its structures are laid out.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>

#include "base/result.h"
#include "trace/memory.h"

namespace tqfpm::trace {

// What differs between PHP's minor versions, in bytes: 64-bit builds without threads (NTS) and debugging. The rest is
// the same in all of them and is in the .cc files.
struct Layout {
  const char *version;       // "8.2"
  std::uint32_t api;         // the number by which PHP itself tells which extensions it can load
  std::uint32_t current;     // zend_executor_globals.current_execute_data
  std::uint32_t last_opcode; // zend_op_array.last
  std::uint32_t opcodes;     // zend_op_array.opcodes
  std::uint32_t filename;    // zend_op_array.filename
};
std::span<const Layout> layouts();

struct Engine {
  const Layout *layout = nullptr;
  Address globals = 0; // executor_globals
};

// Looks for PHP in the images that are mapped at `bases`. An error's message says why there can be no backtraces of
// this program; its code is kUnreadable where not even one image could be read: perhaps the process has gone.
inline constexpr int kUnreadable = 1;
Result<Engine> find_engine(Memory &memory, std::span<const Address> bases);

} // namespace tqfpm::trace
