#include "sys/privileges.h"

#include <grp.h>
#include <pwd.h>
#include <sys/capability.h>
#include <sys/prctl.h>
#include <unistd.h>

#include <cerrno>
#include <charconv>
#include <cstring>

namespace tqfpm::sys {

namespace {

std::optional<unsigned> number(const std::string &text) {
  unsigned value = 0;
  const auto [end, code] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (code != std::errc() || end != text.data() + text.size())
    return std::nullopt;
  return value;
}

Error failure(const std::string &what) {
  return Error{what + ": " + strerror(errno), errno};
}

// Sets exactly `capability` (or nothing) as permitted and effective, and as ambient when it must survive exec.
Status set_capabilities(std::optional<cap_value_t> capability, bool ambient) {
  cap_t caps = ::cap_init();
  bool ok = caps != nullptr;
  if (ok && capability) {
    const cap_value_t value = *capability;
    ok = ::cap_set_flag(caps, CAP_PERMITTED, 1, &value, CAP_SET) == 0 &&
         ::cap_set_flag(caps, CAP_EFFECTIVE, 1, &value, CAP_SET) == 0 &&
         (!ambient || ::cap_set_flag(caps, CAP_INHERITABLE, 1, &value, CAP_SET) == 0);
  }
  ok = ok && ::cap_set_proc(caps) == 0 && (!ambient || !capability || ::cap_set_ambient(*capability, CAP_SET) == 0);
  const int code = errno;
  if (caps != nullptr)
    ::cap_free(caps);
  errno = code;
  return ok ? success() : Status(failure("cannot set capabilities"));
}

} // namespace

bool is_root() {
  return ::geteuid() == 0;
}

std::optional<uid_t> find_user(const std::string &name) {
  if (const passwd *entry = ::getpwnam(name.c_str()))
    return entry->pw_uid;
  return number(name);
}

std::optional<gid_t> find_group(const std::string &name) {
  if (const group *entry = ::getgrnam(name.c_str()))
    return entry->gr_gid;
  return number(name);
}

Result<Identity> find_identity(const std::string &user, const std::string &group) {
  Identity identity;
  const passwd *entry = ::getpwnam(user.c_str());
  const auto numeric = number(user);
  if (entry == nullptr && numeric)
    entry = ::getpwuid(*numeric);
  if (entry != nullptr) {
    identity = {entry->pw_uid, entry->pw_gid, {}, entry->pw_name, entry->pw_dir};
  } else if (numeric) {
    identity = {*numeric, *numeric, {}, user, ""};
  } else {
    return Error{"cannot get uid for user '" + user + "'"};
  }
  if (!group.empty()) {
    const auto gid = find_group(group);
    if (!gid)
      return Error{"cannot get gid for group '" + group + "'"};
    identity.gid = *gid;
  }
  int count = 64;
  identity.groups.resize(static_cast<std::size_t>(count));
  if (::getgrouplist(identity.user.c_str(), identity.gid, identity.groups.data(), &count) < 0) {
    identity.groups.resize(static_cast<std::size_t>(count));
    if (::getgrouplist(identity.user.c_str(), identity.gid, identity.groups.data(), &count) < 0)
      return Error{"cannot get the groups of user '" + user + "'"};
  }
  identity.groups.resize(static_cast<std::size_t>(count));
  return identity;
}

Status become(const Identity &identity, Keep keep) {
  if (keep != Keep::kNothing && ::prctl(PR_SET_KEEPCAPS, 1) != 0)
    return failure("cannot keep capabilities");
  if (::setgroups(identity.groups.size(), identity.groups.data()) != 0)
    return failure("cannot set supplementary groups of user '" + identity.user + "'");
  if (::setresgid(identity.gid, identity.gid, identity.gid) != 0)
    return failure("cannot set gid " + std::to_string(identity.gid));
  if (::setresuid(identity.uid, identity.uid, identity.uid) != 0)
    return failure("cannot set uid " + std::to_string(identity.uid));
  switch (keep) {
  case Keep::kNothing:
    return identity.uid == 0 ? success() : set_capabilities(std::nullopt, false);
  case Keep::kKill:
    return set_capabilities(CAP_KILL, false);
  case Keep::kChroot:
    return set_capabilities(CAP_SYS_CHROOT, true);
  }
  return success();
}

void no_new_privileges() {
  (void)::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
}

} // namespace tqfpm::sys
