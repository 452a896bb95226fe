// Users, groups and capabilities. The only file that includes <sys/capability.h> is privileges.cc.
#pragma once

#include <sys/types.h>

#include <optional>
#include <string>
#include <vector>

#include "base/result.h"

namespace tqfpm::sys {

struct Identity {
  uid_t uid = 0;
  gid_t gid = 0;
  std::vector<gid_t> groups; // supplementary
  std::string user;          // name, or the number in words
  std::string home;          // may be empty
};

bool is_root();
// A name or a number. nullopt: there is none of that name (a number is always taken as it is).
std::optional<uid_t> find_user(const std::string &name);
std::optional<gid_t> find_group(const std::string &name);
// A user with primary and supplementary groups; `group` (name or number, or empty) replaces the primary group.
Result<Identity> find_identity(const std::string &user, const std::string &group);

// Becomes `identity` for good. Capabilities that stay: none, CAP_KILL (to signal workers of another user), or
// CAP_SYS_CHROOT, ambient, so that it survives exec (for workers that chroot).
enum class Keep { kNothing, kKill, kChroot };
Status become(const Identity &identity, Keep keep);

// Nothing that this process executes later gains privileges.
void no_new_privileges();

} // namespace tqfpm::sys
