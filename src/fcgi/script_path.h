// What web servers put into SCRIPT_FILENAME.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace tqfpm::fcgi {

// The path in a SCRIPT_FILENAME as Apache's mod_proxy_fcgi sends it to php-fpm, "proxy:fcgi://HOST[:PORT]/path" or
// "proxy:balancer://NAME/path", perhaps with a query string; any other value as it is.
std::string_view script_path(std::string_view script_filename);

// A path to the same file that begins with "/NAME/" for a NAME of `folders` (sorted), with "/./" or with "./": PHP
// looks for [PATH=...] sections by the path as it is written. Most paths stay as they are; others are those in the root
// folder itself, in a folder that is newer than the list, and odd ones ("//var/x.php").
std::string locked_script(std::string_view script, const std::vector<std::string> &folders);

} // namespace tqfpm::fcgi
