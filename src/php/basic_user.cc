#include "php/basic_user.h"

#include <strings.h>

#include <cstdint>

namespace tqfpm::php {

std::string basic_user(std::string_view authorization) {
  constexpr std::string_view kScheme = "Basic ";
  constexpr std::string_view kDigits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  if (authorization.size() < kScheme.size() || strncasecmp(authorization.data(), kScheme.data(), kScheme.size()) != 0)
    return "";
  std::string text;
  std::uint32_t bits = 0;
  int count = 0;
  for (const char c : authorization.substr(kScheme.size())) {
    if (c == '=' || c == ' ')
      continue;
    const std::size_t digit = kDigits.find(c);
    if (digit == std::string_view::npos)
      return "";
    bits = bits << 6U | static_cast<std::uint32_t>(digit);
    count += 6;
    if (count >= 8) {
      count -= 8;
      const char decoded = static_cast<char>(bits >> static_cast<unsigned>(count) & 0xffU);
      if (decoded == ':') // the password is nobody's business
        return text;
      text += decoded;
    }
  }
  return "";
}

} // namespace tqfpm::php
