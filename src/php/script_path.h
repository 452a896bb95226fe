// Paths of scripts as PHP looks for their [PATH=...] sections.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

namespace tqfpm::php {

// Can a folder of this name have a section? Other names would mean something else in php.ini, or nothing; whoever may
// make folders in a chroot must not write settings.
bool is_section_name(std::string_view folder);

// Those of `folders` (sorted) that get a section, if each section has so many bytes of settings: the command of php-cgi
// must not become longer than the system takes. Scripts elsewhere have the section of "/.".
std::vector<std::string> section_folders(const std::vector<std::string> &folders, std::size_t section_bytes);

// A path to the same file that begins with "/NAME/" for a NAME of `folders` (sorted), with "/./" or with "./": PHP
// looks for [PATH=...] sections by the path as it is written. Most paths stay as they are; others are those in the root
// folder itself and in a folder that is newer than the list. Of several slashes in front one stays.
std::string locked_script(std::string_view script, const std::vector<std::string> &folders);

} // namespace tqfpm::php
