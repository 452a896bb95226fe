// What web servers put into SCRIPT_FILENAME.
#pragma once

#include <string_view>

namespace tqfpm::fcgi {

// The path in a SCRIPT_FILENAME as Apache's mod_proxy_fcgi sends it to php-fpm, "proxy:fcgi://HOST[:PORT]/path" or
// "proxy:balancer://NAME/path", perhaps with a query string; any other value as it is.
std::string_view script_path(std::string_view script_filename);

} // namespace tqfpm::fcgi
