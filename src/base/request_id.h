// The id of a request: in logs, in what scripts see and on the pages of errors.
#pragma once

#include <algorithm>
#include <cstddef>
#include <optional>
#include <string_view>

namespace tqfpm {

// What a web server gives as the id of a request, if it can be one: 1 to 128 letters (ASCII), digits and . _ -; so it
// is safe in HTML, in a log line and in an environment. nullopt: the request gets an id of ours.
constexpr std::optional<std::string_view> request_id(std::string_view given) {
  constexpr std::size_t kLongest = 128;
  const auto is_good = [](char c) {
    return (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '.' || c == '_' ||
           c == '-';
  };
  if (given.empty() || given.size() > kLongest || !std::all_of(given.begin(), given.end(), is_good))
    return std::nullopt;
  return given;
}

} // namespace tqfpm
