// The spawner's look for the script in a path: with the eyes of the pool's user, in the root that workers have.
#pragma once

#include <cstdint>
#include <string>

namespace tqfpm::spawner {

// Bytes of `path` that are the script; 0: none is there. See php::find_script().
std::uint32_t look_for_script(const std::string &path, const std::string &chroot);

} // namespace tqfpm::spawner
