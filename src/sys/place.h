// Where a path leads, for root in folders that others may write: no link of theirs is followed.
#pragma once

#include <string>

#include "base/result.h"
#include "sys/fd.h"

namespace tqfpm::sys {

// A name in an open folder: what is opened by it with openat(2) and O_NOFOLLOW is what the path has led to, whatever
// happens to the path meanwhile.
struct Place {
  Fd folder; // O_PATH
  std::string name;
};

// Follows a path. Symbolic links have to be root's or our own, wherever in the path they are; the last name
// need not exist. A link to a descriptor of this process (/dev/stderr, /proc/self/fd/N) is not followed: it is the
// place.
Result<Place> place_of(const std::string &path);

// The descriptor of this process that a path names, as /dev/stdout, /dev/fd/3 and /proc/self/fd/3 do; -1: none.
int descriptor_named(const std::string &path);

} // namespace tqfpm::sys
