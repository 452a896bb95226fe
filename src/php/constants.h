// PHP's error level constants, for showing a value as PHP's own INI parser would read it.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

namespace tqfpm::php {

// The number that an expression of E_* constants means: "E_ALL & ~E_NOTICE". nullopt: `text` is no such expression.
// `e_all` is E_ALL's value, which is not the same in all versions of PHP.
std::optional<std::int64_t> error_level(std::string_view text, std::int64_t e_all);
// E_ALL of a version: 32767, from PHP 8.4 on without E_STRICT. `version` is what php-cgi -v says.
std::int64_t e_all_of(std::string_view version);

} // namespace tqfpm::php
