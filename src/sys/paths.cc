#include "sys/paths.h"

#include <sys/prctl.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>

namespace tqfpm::sys {

const char *const kVersion = TQFPM_VERSION;
const char *const kDefaultErrorLog = TQFPM_LOCALSTATEDIR "/log/tqfpm.log";

namespace {

// The folder of the program if that is a source tree: tqfpm runs uninstalled there.
std::string source_tree() {
  const std::string program = program_path();
  const std::string folder = program.substr(0, program.rfind('/') + 1);
  return !folder.empty() && ::access((folder + "etc/tqfpm.conf").c_str(), R_OK) == 0 ? folder : "";
}

} // namespace

std::string default_config() {
  const std::string tree = source_tree();
  return tree.empty() ? TQFPM_SYSCONFDIR "/tqfpm.conf" : tree + "etc/tqfpm.conf";
}

std::string default_prefix() {
  const std::string tree = source_tree();
  return tree.size() > 1 ? tree.substr(0, tree.size() - 1) : TQFPM_PREFIX;
}

std::string program_path() {
  char buffer[4096];
  const ssize_t length = ::readlink("/proc/self/exe", buffer, sizeof buffer);
  if (length <= 0)
    return "";
  std::string path(buffer, static_cast<std::size_t>(length));
  // The binary was replaced while we run: its successor is at the same place.
  constexpr std::string_view kDeleted = " (deleted)";
  if (path.ends_with(kDeleted))
    path.resize(path.size() - kDeleted.size());
  return path;
}

std::optional<std::string> find_library(const std::string &name) {
  const std::string program = program_path();
  const std::string beside = program.substr(0, program.rfind('/') + 1) + name;
  for (const std::string &candidate : {beside, std::string(TQFPM_LIBDIR "/") + name}) {
    if (candidate.front() == '/' && ::access(candidate.c_str(), R_OK) == 0)
      return candidate;
  }
  return std::nullopt;
}

namespace {
struct TitleArea {
  char *start = nullptr;
  std::size_t size = 0;
} title_area;
} // namespace

void keep_title_area(int argc, char **argv) {
  title_area.start = argv[0];
  char *end = argv[0];
  for (int i = 0; i < argc && argv[i] == end; ++i)
    end = argv[i] + strlen(argv[i]) + 1;
  // The environment follows the arguments; it is moved away so that its room can be used.
  for (char **entry = environ; *entry != nullptr && *entry == end; ++entry) {
    end += strlen(*entry) + 1;
    *entry = strdup(*entry);
  }
  title_area.size = static_cast<std::size_t>(end - title_area.start);
}

void set_title(const std::string &title) {
  if (title_area.size == 0)
    return;
  const std::size_t length = std::min(title.size(), title_area.size - 1);
  memset(title_area.start, 0, title_area.size);
  memcpy(title_area.start, title.data(), length);
}

} // namespace tqfpm::sys
