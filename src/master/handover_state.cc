#include "master/handover_state.h"

#include <algorithm>
#include <climits>
#include <optional>
#include <set>

#include "base/text.h"

namespace tqfpm::master {

namespace {

using Kind = StateEntry::Kind;

constexpr std::string_view kFirstLine = "tqfpm-state\t1\n";
constexpr const char *kNames[] = {"config", "processes", "socket", "given", "board", "generation"};

// A line holds one entry, whatever is in an address.
std::string escaped(std::string_view text) {
  std::string out;
  for (const char c : text)
    out += c == '\\' ? "\\\\" : c == '\n' ? "\\n" : std::string(1, c);
  return out;
}

std::string unescaped(std::string_view text) {
  std::string out;
  for (std::size_t at = 0; at < text.size(); ++at) {
    const bool escape = text[at] == '\\' && at + 1 < text.size();
    at += escape ? 1 : 0;
    out += escape && text[at] == 'n' ? '\n' : text[at];
  }
  return out;
}

// Takes the text up to the next tab, or all of it.
std::string_view next_word(std::string_view &line) {
  const std::size_t end = std::min(line.find('\t'), line.size());
  const std::string_view word = line.substr(0, end);
  line.remove_prefix(std::min(end + 1, line.size()));
  return word;
}

std::optional<int> next_number(std::string_view &line, int least, int most) {
  const auto number = to_number(next_word(line));
  return number && *number >= least && *number <= most ? std::optional(static_cast<int>(*number)) : std::nullopt;
}

// Words separated by tabs, the free text last.
std::optional<StateEntry> parse_line(std::string_view line) {
  StateEntry entry;
  const auto name = std::find(std::begin(kNames), std::end(kNames), next_word(line));
  entry.kind = static_cast<Kind>(name - std::begin(kNames));
  const auto fd = next_number(line, 3, INT_MAX);
  if (!fd)
    return std::nullopt;
  entry.fd = *fd;
  if (entry.kind == Kind::kGeneration) {
    const auto pid = next_number(line, 2, INT_MAX);
    const auto number = next_number(line, 0, INT_MAX);
    const auto phase = next_number(line, 0, StateEntry::kPhases - 1);
    if (!pid || !number || !phase)
      return StateEntry{Kind::kUnknown, *fd, ""};
    entry.pid = *pid;
    entry.number = static_cast<unsigned>(*number);
    entry.phase = *phase;
  }
  if (entry.kind != Kind::kUnknown)
    entry.text = unescaped(line);
  return entry;
}

} // namespace

std::string state_text(const std::vector<StateEntry> &entries) {
  std::string out(kFirstLine);
  for (const StateEntry &each : entries) {
    if (each.kind == Kind::kUnknown)
      continue;
    out.append(kNames[static_cast<int>(each.kind)]).append("\t").append(std::to_string(each.fd));
    if (each.kind == Kind::kGeneration) {
      for (const std::int64_t number : {std::int64_t{each.pid}, std::int64_t{each.number}, std::int64_t{each.phase}})
        out.append("\t").append(std::to_string(number));
    }
    out.append("\t").append(escaped(each.text)).append("\n");
  }
  return out;
}

std::vector<StateEntry> parse_state(std::string_view text) {
  std::vector<StateEntry> entries;
  std::set<int> seen;
  while (!text.empty()) {
    const std::size_t end = std::min(text.find('\n'), text.size());
    const auto entry = parse_line(text.substr(0, end));
    text.remove_prefix(std::min(end + 1, text.size()));
    if (entry && seen.insert(entry->fd).second)
      entries.push_back(*entry);
  }
  return entries;
}

} // namespace tqfpm::master
