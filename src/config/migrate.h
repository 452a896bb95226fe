// php-fpm's configuration as files of tqfpm's, and what an operator should know before the move. Text alone:
// master/migrate reads and writes.
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "config/load.h"

namespace tqfpm::config {

struct MigratedFile {
  std::string path; // below the folder
  std::string text;
};
// tqfpm.conf and tqfpm.d/POOL.conf: the directives that are not at their defaults, in the table's order, each with the
// place that it comes from. `from` is what was loaded (with LoadRequest::keep_environment), `folder` where the files
// will be.
std::vector<MigratedFile> migrated_files(const LoadResult &loaded, const std::string &from, const std::string &folder);

// What the system says.
struct MigrationFacts {
  std::string from;
  std::string folder;
  std::vector<std::pair<std::string, std::string>> in_use; // pool, who listens on its address now
  std::vector<std::string> running;                        // masters of php-fpm
  std::uint64_t memory = 0;                                // bytes that there are; 0: not known
  std::string memory_of;                                   // "this machine"
  std::vector<std::string> packages;                       // of php-cgi that are missing
};
std::string migration_report(const LoadResult &loaded, const MigrationFacts &facts);

} // namespace tqfpm::config
