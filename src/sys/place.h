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
  bool magic = false; // a link of /proc's, which leads where no path does: it is followed when it is opened
};

// Follows a path. For root symbolic links have to be root's, wherever in the path they are; the last name need not
// exist. A link to a standard stream (/dev/stderr) is not followed: it is the place.
Result<Place> place_of(const std::string &path);

// The standard stream that a path names, 1 or 2, as /dev/stdout and /proc/self/fd/1 do; -1: none.
int descriptor_named(const std::string &path);

} // namespace tqfpm::sys
