// Paths of scripts as PHP looks for their [PATH=...] sections.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace tqfpm::php {

// A path to the same file that begins with "/NAME/" for a NAME of `folders` (sorted), with "/./" or with "./": PHP
// looks for [PATH=...] sections by the path as it is written. Most paths stay as they are; others are those in the root
// folder itself and in a folder that is newer than the list. Of several slashes in front one stays.
std::string locked_script(std::string_view script, const std::vector<std::string> &folders);

} // namespace tqfpm::php
