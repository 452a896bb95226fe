// Small tools for text.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace tqfpm {

std::string_view trim(std::string_view text);
// Parts between any of `separators`, without empty ones.
std::vector<std::string> split(std::string_view text, std::string_view separators);
std::string join(const std::vector<std::string> &parts, std::string_view separator);
// `from` is not empty.
std::string replace_all(std::string_view text, std::string_view from, std::string_view to);
std::string lower(std::string_view text);
// Text that others have chosen goes into a line of ours by this way alone: control characters, which could begin a line
// of their own or steer a terminal, become \xNN. Tabs stay, and what is no ASCII. Those of `also` become \xNN, too.
void append_safe(std::string &line, std::string_view text, std::string_view also = {});
std::string safe(std::string_view text);
// The whole of `text` as a number; nullopt if anything else is in it or it does not fit.
std::optional<std::int64_t> to_number(std::string_view text, int base = 10);
// Empties it, and gives memory of more than `kept` bytes back: an assignment of "" keeps it.
void empty(std::string &buffer, std::size_t kept);
// Levenshtein's distance.
std::size_t edit_distance(std::string_view a, std::string_view b);

} // namespace tqfpm
