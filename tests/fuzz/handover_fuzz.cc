// What one image of the master leaves for the next: any text is read, and what was written comes back.
#include <algorithm>
#include <climits>
#include <set>

#include "input.h"
#include "master/handover_state.h"

namespace {

using namespace tqfpm;
using master::StateEntry;

void check(const std::vector<StateEntry> &entries) {
  std::set<int> seen;
  for (const StateEntry &each : entries) {
    FUZZ_CHECK(each.fd > 2 && seen.insert(each.fd).second);
    FUZZ_CHECK(each.kind <= StateEntry::Kind::kUnknown);
    FUZZ_CHECK(each.phase >= 0 && each.phase < StateEntry::kPhases);
    FUZZ_CHECK((each.pid > 1) == (each.kind == StateEntry::Kind::kGeneration));
  }
}

StateEntry an_entry(fuzz::Input &input, int fd) {
  StateEntry entry;
  entry.kind = static_cast<StateEntry::Kind>(input.below(6));
  entry.fd = fd;
  entry.text = input.text();
  if (entry.kind == StateEntry::Kind::kGeneration) {
    entry.pid = 2 + static_cast<pid_t>(input.below(65536));
    entry.number = static_cast<unsigned>(input.below(65536));
    entry.phase = static_cast<int>(input.below(StateEntry::kPhases));
  }
  return entry;
}

} // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t *data, std::size_t size) {
  fuzz::Input input(data, size);
  if (input.flag()) {
    auto entries = master::parse_state(input.rest());
    check(entries);
    std::erase_if(entries, [](const StateEntry &each) { return each.kind == StateEntry::Kind::kUnknown; });
    FUZZ_CHECK(master::parse_state(master::state_text(entries)) == entries);
    return 0;
  }
  std::vector<StateEntry> entries;
  for (int fd = 3; !input.empty() && fd < 40; ++fd)
    entries.push_back(an_entry(input, fd));
  const std::string text = master::state_text(entries);
  FUZZ_CHECK(master::parse_state(text) == entries);
  FUZZ_CHECK(static_cast<std::size_t>(std::count(text.begin(), text.end(), '\n')) == entries.size() + 1);
  return 0;
}
