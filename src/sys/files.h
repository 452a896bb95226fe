// Files: reading, the pid file, where things are installed.
#pragma once

#include <sys/types.h>

#include <optional>
#include <string>
#include <vector>

#include "base/result.h"
#include "sys/fd.h"

namespace tqfpm::sys {

Result<std::string> read_file(const std::string &path);
Result<std::string> read_fd(int fd);                                     // from its beginning
Result<std::vector<std::string>> glob_files(const std::string &pattern); // sorted
// Names of the folders (and links to some) in `path`, sorted; empty if it cannot be read.
std::vector<std::string> folders_in(const std::string &path);
bool is_executable(const std::string &path);
bool is_folder(const std::string &path);
bool is_readable(const std::string &path);
// `name` in $PATH (or `name` itself when it has a slash).
std::optional<std::string> find_program(const std::string &name);

// The pid file: written to a new file that is renamed over the old one; removed only by the process that wrote it.
class PidFile {
public:
  PidFile() = default;
  ~PidFile();
  PidFile(const PidFile &) = delete;
  PidFile &operator=(const PidFile &) = delete;
  // Error when the path cannot be written, or names a living process that is another tqfpm.
  Status write(const std::string &path);
  // The file exists and has our pid (after a reload in place): it is ours to remove.
  void adopt(const std::string &path);
  void forget() { path_.clear(); } // leave it: another image of this process goes on with it
  void remove();

private:
  std::string path_;
};

} // namespace tqfpm::sys
