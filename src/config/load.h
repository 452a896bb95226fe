// Reads configuration files into a Config. All errors of all files are found in one run.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "base/result.h"
#include "config/types.h"

namespace tqfpm::config {

// Where files come from.
class FileSource {
public:
  virtual ~FileSource() = default;
  virtual Result<std::string> read(const std::string &path) = 0;                 // the whole file
  virtual Result<std::vector<std::string>> glob(const std::string &pattern) = 0; // sorted; empty if none matches
};

// One text, whatever path is asked for: a dump that one process gives to another.
class TextSource : public FileSource {
public:
  explicit TextSource(std::string text) : text_(std::move(text)) {}
  Result<std::string> read(const std::string &) override { return text_; }
  Result<std::vector<std::string>> glob(const std::string &) override { return std::vector<std::string>{}; }

private:
  std::string text_;
};

struct LoadRequest {
  std::string path;
  std::string prefix;            // of the command line; empty: default_prefix
  std::string default_prefix;    // of the installation
  std::string default_error_log; // when none is set
  bool keep_environment = false; // env[X] = $X stays as it is
  std::function<std::optional<std::string>(const std::string &)> environment; // for $NAME in env[] and ${NAME}
};

enum class Severity : std::uint8_t { kNotice, kWarning, kError };
// What stands before a message's text. Where operators and tools look for php-fpm's whole line, it is php-fpm's.
enum class Lead : std::uint8_t { kPlace, kPool, kNothing }; // FILE:LINE: [pool www], [pool www], nothing
struct Message {
  Severity severity = Severity::kError;
  Location where;
  std::string pool; // "" for [global]
  std::string text;
  Lead lead = Lead::kPlace;
  [[nodiscard]] std::string str() const;
};

// Where each directive of a pool was set: {pool, directive} -> place; absent: not set.
using Places = std::map<std::pair<std::string, std::string>, Location>;

struct LoadResult {
  Config config;
  Places places;
  std::vector<Message> messages;
  [[nodiscard]] bool ok() const; // no error among the messages
  // Adds a message that concerns a directive of a pool: where it was set, or the pool's beginning. A notice asks for no
  // correction and has php-fpm's words alone.
  void say(Severity severity, const PoolConfig &pool, const char *directive, const std::string &text,
           Lead lead = Lead::kPlace);
  // Where a directive of a pool was set, or else where the pool begins.
  [[nodiscard]] Location place(const PoolConfig &pool, const char *directive) const;
};

LoadResult load(const LoadRequest &request, FileSource &source);

// The PHP version in the path of a Debian-style configuration: /etc/php/8.2/fpm/php-fpm.conf -> 8.2; else "".
std::string php_from_path(const std::string &config_path);
// The folder of such a configuration, where its php.ini is: /etc/php/8.2/fpm/pool.d/x.conf -> /etc/php/8.2/fpm; else
// "".
std::string php_folder_from_path(const std::string &config_path);

} // namespace tqfpm::config
