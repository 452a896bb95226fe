#include "php/ini_text.h"

#include <algorithm>
#include <cctype>

#include "base/text.h"

namespace tqfpm::php {

namespace {

bool is_value_word(std::string_view word) {
  constexpr std::string_view kWords[] = {"true", "on", "yes", "false", "off", "no", "none", "null"};
  return std::find(std::begin(kWords), std::end(kWords), lower(word)) != std::end(kWords);
}

bool is_word_char(unsigned char c) {
  return std::isupper(c) != 0 || std::isdigit(c) != 0 || c == '_';
}

std::string_view word_at(std::string_view text, std::size_t at) {
  const auto end = std::find_if_not(text.begin() + static_cast<std::ptrdiff_t>(at), text.end(), is_word_char);
  return text.substr(at, static_cast<std::size_t>(end - text.begin()) - at);
}

std::size_t after_spaces(std::string_view text, std::size_t at) {
  return std::min(text.find_first_not_of(' ', at), text.size());
}

// WORD or WORD & ~WORD | WORD ..., as PHP's grammar has it: what only looks like one must not get there without quotes.
// php-cgi itself puts quotes around a value that begins with neither a letter nor a digit.
bool is_expression(std::string_view value) {
  if (value.empty() || value.front() == '_')
    return false;
  if (word_at(value, 0) == value)
    return true;
  for (std::size_t at = 0;;) {
    const std::string_view word = word_at(value, at);
    if (word.empty() || is_value_word(word)) // null & 1 is a mistake
      return false;
    at += word.size();
    if (at == value.size())
      return true;
    at = after_spaces(value, at);
    if (at == value.size() || std::string_view("&|^").find(value[at]) == std::string_view::npos)
      return false;
    at = after_spaces(value, at + 1);
    at += at < value.size() && value[at] == '~' ? 1 : 0;
  }
}

// '...' is taken as it is, pieces side by side are joined, and so a ' stands in "..." .
std::string quoted(std::string_view value) {
  std::string out;
  for (std::size_t at = 0; at < value.size();) {
    const bool apostrophe = value[at] == '\'';
    const std::size_t end =
        std::min(apostrophe ? value.find_first_not_of('\'', at) : value.find('\'', at), value.size());
    const char mark = apostrophe ? '"' : '\'';
    out.append(1, mark).append(value.substr(at, end - at)).append(1, mark);
    at = end;
  }
  return out.empty() ? "\"\"" : out;
}

} // namespace

bool is_setting_name(std::string_view name) {
  return !name.empty() && !is_value_word(name) && std::all_of(name.begin(), name.end(), [](unsigned char c) {
    return std::isalnum(c) != 0 || c == '_' || c == '.' || c == '-';
  });
}

std::string ini_value(std::string_view value) {
  return is_expression(value) ? std::string(value) : quoted(value);
}

std::string ini_line(std::string_view name, std::string_view value) {
  if (!is_setting_name(name) || value.find('\0') != std::string_view::npos)
    return "";
  return std::string(name) + "=" + ini_value(value);
}

} // namespace tqfpm::php
