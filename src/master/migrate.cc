#include "master/migrate.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <climits>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "config/diff.h"
#include "config/migrate.h"
#include "master/commands.h"
#include "master/startup.h"
#include "sys/files.h"
#include "sys/log.h"
#include "sys/machine.h"

namespace tqfpm::master {

namespace {

constexpr char kDefaultFolder[] = "tqfpm-migrated";

void print(const std::string &text) {
  std::fputs(text.c_str(), stdout);
  std::fflush(stdout);
}

// "8.2", a folder as /etc/php/8.2/fpm, or the file itself.
std::string source_of(const std::string &from) {
  const bool version = !from.empty() && from.find_first_not_of("0123456789.") == std::string::npos;
  const std::string place = version && !sys::is_folder(from) ? "/etc/php/" + from + "/fpm" : from;
  return sys::is_folder(place) ? place + (place.ends_with('/') ? "" : "/") + "php-fpm.conf" : place;
}

std::string absolute(const std::string &path) {
  if (path.starts_with('/'))
    return path;
  char buffer[PATH_MAX];
  const char *here = ::getcwd(buffer, sizeof buffer);
  return std::string(here != nullptr ? here : ".") + "/" + path;
}

// New files beside the old ones that take their names when all are there. What has not got its name is removed.
class FileSet {
public:
  explicit FileSet(std::string folder) : folder_(std::move(folder)) {}
  ~FileSet() {
    for (const std::string &path : written_)
      ::unlink(temporary(path).c_str());
    for (auto each = made_.rbegin(); !done_ && each != made_.rend(); ++each)
      ::rmdir(each->c_str());
  }
  FileSet(const FileSet &) = delete;
  FileSet &operator=(const FileSet &) = delete;

  Status write(const std::vector<config::MigratedFile> &files) {
    for (const config::MigratedFile &each : files) {
      const auto there = sys::read_file(folder_ + "/" + each.path);
      if (there.ok() ? there.value() != each.text : there.error().code != ENOENT)
        return Error{folder_ + "/" + each.path +
                     " is there already and says something else: choose another folder "
                     "with --to, or move it away"};
    }
    for (const std::string &path : {folder_, folder_ + "/tqfpm.d"}) {
      if (::mkdir(path.c_str(), 0755) == 0)
        made_.push_back(path);
      else if (errno != EEXIST)
        return failure("cannot create the folder ", path);
    }
    for (const config::MigratedFile &each : files) {
      if (auto status = write_one(each); !status.ok())
        return status;
    }
    for (const config::MigratedFile &each : files) {
      const std::string path = folder_ + "/" + each.path;
      if (::rename(temporary(path).c_str(), path.c_str()) != 0)
        return failure("cannot write ", path);
    }
    done_ = true;
    written_.clear();
    return success();
  }

private:
  static std::string temporary(const std::string &path) { return path + ".new"; }
  static Error failure(const char *what, const std::string &path) {
    return Error{what + path + ": " + strerror(errno), errno};
  }
  // No link that somebody else has put there is followed.
  Status write_one(const config::MigratedFile &file) {
    const std::string path = folder_ + "/" + file.path;
    const sys::Fd fd(::open(temporary(path).c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0644));
    if (!fd.valid())
      return failure("cannot write ", temporary(path));
    written_.push_back(path);
    std::string_view rest = file.text;
    while (!rest.empty()) {
      const ssize_t wrote = ::write(fd.get(), rest.data(), rest.size());
      if (wrote < 0 && errno == EINTR)
        continue;
      if (wrote <= 0)
        return failure("cannot write ", temporary(path));
      rest.remove_prefix(static_cast<std::size_t>(wrote));
    }
    if (::fchmod(fd.get(), 0644) != 0 || ::fsync(fd.get()) != 0)
      return failure("cannot write ", temporary(path));
    return success();
  }

  std::string folder_;
  std::vector<std::string> written_;
  std::vector<std::string> made_;
  bool done_ = false;
};

config::MigrationFacts facts_of(const config::LoadResult &loaded, const std::string &from, const std::string &folder) {
  config::MigrationFacts facts;
  facts.from = from;
  facts.folder = folder;
  for (const config::PoolConfig &pool : loaded.config.pools) {
    sys::ListenSpec spec;
    spec.is_unix = pool.listen.kind == config::Address::Kind::kUnix;
    spec.path = pool.listen.path;
    spec.port = pool.listen.port;
    if (std::string who = sys::listener_on(spec); !who.empty())
      facts.in_use.emplace_back(pool.name, std::move(who));
    const std::string version = pool.php_version.empty() ? config::php_from_path(from) : pool.php_version;
    const std::string package = version.empty() ? "php-cgi" : "php" + version + "-cgi";
    if (!find_php(pool, from).ok() &&
        std::find(facts.packages.begin(), facts.packages.end(), package) == facts.packages.end())
      facts.packages.push_back(package);
  }
  facts.running = sys::masters_called("php-fpm: master process");
  const sys::MemoryLimit memory = sys::memory_limit();
  facts.memory = memory.bytes;
  facts.memory_of = memory.of_group ? "the control group that this ran in" : "this machine";
  return facts;
}

// The PHP of php-fpm's place, which tqfpm's files will not be in.
void name_php(config::PoolConfig &pool, const std::string &from) {
  const std::string version = config::php_from_path(from);
  if (pool.php_binary.empty() && pool.php_version.empty() && !version.empty())
    pool.php_version = version;
  const std::string folder = config::php_folder_from_path(from);
  if (pool.php_ini.empty() && !folder.empty() && sys::is_readable(folder + "/php.ini"))
    pool.php_ini = folder;
}

// Notices are php-fpm's own words about its own files: nobody has to do anything about them.
void show(const std::vector<config::Message> &messages) {
  for (const config::Message &each : messages) {
    if (each.severity != config::Severity::kNotice)
      sys::log().line(each.severity == config::Severity::kError ? sys::Level::kError : sys::Level::kWarning,
                      each.str());
  }
}

// What was written must load, and to the same.
bool verify(const Options &options, const config::Config &meant, const std::string &path) {
  Options check = options;
  check.config_path = path;
  check.test = 1;
  const config::LoadResult loaded = load_configuration(check);
  show(loaded.messages);
  config::Config expected = meant;
  for (config::PoolConfig &pool : expected.pools) {
    if (const auto binary = find_php(pool, path); binary.ok())
      pool.php_binary = binary.value();
  }
  expected.global.pid = loaded.config.global.pid; // -g
  bool same = true;
  for (const config::Change &each : config::diff(expected, loaded.config)) {
    same = false;
    sys::log().error("{} of pool {} is not what it was; are there other files in the folder?",
                     each.directive.empty() ? "existence" : each.directive, each.pool.empty() ? "-" : each.pool);
  }
  return loaded.ok() && same;
}

} // namespace

int migrate(const Options &options) {
  const std::string from = source_of(options.migrate);
  const std::string folder = absolute(options.migrate_to.empty() ? kDefaultFolder : options.migrate_to);
  Options source = options;
  source.config_path = from;
  config::LoadResult loaded = read_configuration(source, true);
  show(loaded.messages);
  if (!loaded.ok()) {
    sys::log().error("{} is left alone: correct it first", from);
    return kExitConfig;
  }
  config::LoadResult resolved = read_configuration(source, false);
  for (config::LoadResult *each : {&loaded, &resolved}) {
    for (config::PoolConfig &pool : each->config.pools)
      name_php(pool, from);
  }
  FileSet files(folder);
  if (auto status = files.write(config::migrated_files(loaded, from, folder)); !status.ok()) {
    sys::log().error("{}", status.error().message);
    return kExitConfig;
  }
  print(config::migration_report(loaded, facts_of(loaded, from, folder)));
  return verify(options, resolved.config, folder + "/tqfpm.conf") ? 0 : kExitConfig;
}

} // namespace tqfpm::master
