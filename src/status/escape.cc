// Escaping for the status page.
#include <fmt/format.h>

#include <optional>

#include "status/render.h"

namespace tqfpm::status {

namespace {

// The character at the front of `text` is taken off; nullopt: one byte that is no UTF-8.
std::optional<std::uint32_t> take_character(std::string_view &text) {
  const auto byte = [&text](std::size_t i) { return static_cast<unsigned char>(text[i]); };
  const unsigned first = byte(0);
  const std::size_t length = first < 0x80   ? 1
                             : first < 0xc2 ? 0
                             : first < 0xe0 ? 2
                             : first < 0xf0 ? 3
                             : first < 0xf5 ? 4
                                            : 0;
  std::uint32_t value = length < 2 ? first : first & (0x7fU >> length);
  bool good = length > 0 && length <= text.size();
  for (std::size_t i = 1; good && i < length; ++i) {
    good = (byte(i) & 0xc0U) == 0x80;
    value = value << 6 | (byte(i) & 0x3fU);
  }
  constexpr std::uint32_t kLeast[] = {0, 0, 0x80, 0x800, 0x10000};
  good = good && value >= kLeast[length] && value <= 0x10ffff && (value < 0xd800 || value > 0xdfff);
  text.remove_prefix(good ? length : 1);
  return good ? std::optional(value) : std::nullopt;
}

} // namespace

std::string escape_markup(std::string_view text) {
  std::string out;
  while (!text.empty()) {
    const std::string_view before = text;
    const auto character = take_character(text);
    if (!character || (*character < 0x20 && *character != '\t' && *character != '\n' && *character != '\r') ||
        *character == 0x7f)
      out += "\xef\xbf\xbd";
    else if (*character == '<')
      out += "&lt;";
    else if (*character == '>')
      out += "&gt;";
    else if (*character == '&')
      out += "&amp;";
    else if (*character == '"')
      out += "&quot;";
    else if (*character == '\'')
      out += "&#039;";
    else
      out += before.substr(0, before.size() - text.size());
  }
  return out;
}

std::string php_json_string(std::string_view text) {
  std::string out = "\"";
  while (!text.empty()) {
    const auto character = take_character(text);
    if (!character)
      continue;
    constexpr std::string_view kShort = "\"\\/\b\f\n\r\t";
    constexpr std::string_view kLetters = "\"\\/bfnrt";
    const std::size_t known = *character < 0x80 ? kShort.find(static_cast<char>(*character)) : std::string_view::npos;
    if (known != std::string_view::npos)
      out += {'\\', kLetters[known]};
    else if (*character >= 0x10000)
      out += fmt::format("\\u{:04x}\\u{:04x}", 0xd800 + ((*character - 0x10000) >> 10),
                         0xdc00 + ((*character - 0x10000) & 0x3ffU));
    else if (*character < 0x20 || *character >= 0x80)
      out += fmt::format("\\u{:04x}", *character);
    else
      out += static_cast<char>(*character);
  }
  return out + "\"";
}

} // namespace tqfpm::status
