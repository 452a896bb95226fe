// Text of php.ini, for php-cgi's -d arguments. One mistake in it ends PHP's reading: every setting behind it would be
// lost, those that scripts must not change among them.
#pragma once

#include <string>
#include <string_view>

namespace tqfpm::php {

// Can a setting have this name? Letters, digits, _ . and - are in PHP's; a word that is a value in php.ini (on, null,
// ...) is none.
bool is_setting_name(std::string_view name);

// `value`, without a zero byte, quoted so that PHP reads back exactly it. A number, a constant or an expression of them
// (E_ALL & ~E_NOTICE) is left to PHP as it is, which evaluates it.
std::string ini_value(std::string_view value);

// One line of php.ini; "" for a name that is none, and for a value with a zero byte.
std::string ini_line(std::string_view name, std::string_view value);

} // namespace tqfpm::php
