#include "php/constants.h"

#include <algorithm>
#include <array>
#include <utility>

#include "base/text.h"

namespace tqfpm::php {

namespace {

constexpr std::array<std::pair<std::string_view, std::int64_t>, 15> kLevels = {{
    {"E_ERROR", 1},
    {"E_WARNING", 2},
    {"E_PARSE", 4},
    {"E_NOTICE", 8},
    {"E_CORE_ERROR", 16},
    {"E_CORE_WARNING", 32},
    {"E_COMPILE_ERROR", 64},
    {"E_COMPILE_WARNING", 128},
    {"E_USER_ERROR", 256},
    {"E_USER_WARNING", 512},
    {"E_USER_NOTICE", 1024},
    {"E_STRICT", 2048},
    {"E_RECOVERABLE_ERROR", 4096},
    {"E_DEPRECATED", 8192},
    {"E_USER_DEPRECATED", 16384},
}};

// As PHP's INI scanner: operators | & ^ of equal rank from left to right, ~ before a value, parentheses.
class Expression {
public:
  Expression(std::string_view text, std::int64_t e_all) : rest_(text), e_all_(e_all) {}

  std::optional<std::int64_t> whole() {
    const auto value = chain();
    return rest_.empty() && constant_seen_ ? value : std::nullopt;
  }

private:
  bool take(char c) {
    rest_ = trim(rest_);
    if (rest_.empty() || rest_.front() != c)
      return false;
    rest_.remove_prefix(1);
    return true;
  }

  std::optional<std::int64_t> chain() {
    auto value = single();
    while (value) {
      const char mark = take('|') ? '|' : take('&') ? '&' : take('^') ? '^' : '\0';
      if (mark == '\0')
        break;
      const auto other = single();
      if (!other)
        return std::nullopt;
      value = mark == '|' ? *value | *other : mark == '&' ? *value & *other : *value ^ *other;
    }
    return value;
  }

  std::optional<std::int64_t> single() {
    if (depth_ > 64)
      return std::nullopt;
    ++depth_;
    std::optional<std::int64_t> value;
    if (take('~')) {
      value = single();
      if (value)
        value = ~*value;
    } else if (take('(')) {
      value = chain();
      if (!take(')'))
        value.reset();
    } else {
      value = word();
    }
    --depth_;
    return value;
  }

  std::optional<std::int64_t> word() {
    rest_ = trim(rest_);
    const std::size_t length = std::min(rest_.find_first_not_of("ABCDEFGHIJKLMNOPQRSTUVWXYZ_0123456789"), rest_.size());
    const std::string_view name = rest_.substr(0, length);
    rest_.remove_prefix(length);
    rest_ = trim(rest_);
    if (const auto number = to_number(name))
      return number;
    if (name == "E_ALL") {
      constant_seen_ = true;
      return e_all_;
    }
    for (const auto &[each, value] : kLevels) {
      if (each == name) {
        constant_seen_ = true;
        return value;
      }
    }
    return std::nullopt;
  }

  std::string_view rest_;
  std::int64_t e_all_;
  bool constant_seen_ = false;
  int depth_ = 0;
};

} // namespace

std::optional<std::int64_t> error_level(std::string_view text, std::int64_t e_all) {
  return Expression(text, e_all).whole();
}

std::int64_t e_all_of(std::string_view version) {
  constexpr std::string_view kPhp = "PHP ";
  if (!version.starts_with(kPhp))
    return 32767;
  const auto parts = split(version.substr(kPhp.size(), 16), ". -");
  const auto major = parts.empty() ? std::nullopt : to_number(parts[0]);
  const auto minor = parts.size() < 2 ? std::nullopt : to_number(parts[1]);
  return major && minor && (*major > 8 || (*major == 8 && *minor >= 4)) ? 30719 : 32767;
}

} // namespace tqfpm::php
