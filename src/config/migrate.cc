#include "config/migrate.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>

#include "base/networks.h"
#include "config/codec.h"
#include "config/table.h"

namespace tqfpm::config {

namespace {

constexpr std::uint64_t kTypicalWorker = 40ULL << 20; // private memory of a worker of a usual application

// What tqfpm finds out by the place of php-fpm's files, which will be another one.
bool follows_from_place(const Row &row) {
  const std::string_view name = row.name;
  return name == "php.binary" || name == "php.version" || name == "php.ini";
}

std::string place_of(const LoadResult &loaded, const std::string &pool, const Row &row) {
  const auto found = loaded.places.find({pool, row.name});
  return found == loaded.places.end() ? "" : fmt::format("{}:{}", found->second.file, found->second.line);
}

std::string lines_of(const LoadResult &loaded, const std::string &pool, const Row &row, const std::string &printed,
                     const std::string &by_default) {
  const std::string place = place_of(loaded, pool, row);
  const bool here = !place.empty() || follows_from_place(row);
  if (!here || printed.empty() || printed == by_default)
    return "";
  return fmt::format("\n; {}\n{}", place.empty() ? "by where php-fpm's files are" : place, printed);
}

std::string pool_text(const LoadResult &loaded, const PoolConfig &pool) {
  static const PoolConfig defaults = default_pool("");
  std::string out = "[" + pool.name + "]\n";
  for (const Row &row : table()) {
    if (row.scope == Scope::kPool)
      out += lines_of(loaded, pool.name, row, row.print_pool(pool), row.print_pool(defaults));
  }
  return out;
}

std::string global_text(const LoadResult &loaded) {
  static const GlobalConfig defaults = default_global();
  std::string out = "[global]\n";
  for (const Row &row : table()) {
    if (row.scope == Scope::kGlobal)
      out += lines_of(loaded, "", row, row.print_global(loaded.config.global), row.print_global(defaults));
  }
  return out;
}

// Files that begin with a dot are not included.
std::string file_of(const std::string &pool) {
  return (pool.front() == '.' ? "_" : "") + pool + ".conf";
}

// The directives of php-fpm's that are set, with the pools that set them ("" for [global]).
struct SetRow {
  const Row *row;
  std::vector<std::string> pools;
};
std::vector<SetRow> set_rows(const LoadResult &loaded) {
  std::vector<SetRow> rows;
  for (const Row &row : table()) {
    SetRow each{&row, {}};
    if (row.scope == Scope::kGlobal && loaded.places.contains({"", row.name}))
      each.pools.emplace_back("");
    for (const PoolConfig &pool : loaded.config.pools) {
      if (row.scope == Scope::kPool && loaded.places.contains({pool.name, row.name}))
        each.pools.push_back(pool.name);
    }
    if (!each.pools.empty())
      rows.push_back(std::move(each));
  }
  return rows;
}

std::string joined(const std::vector<std::string> &words) {
  std::string out;
  for (const std::string &each : words)
    out += (out.empty() ? "" : ", ") + each;
  return out;
}

// Text in lines of a terminal's width, with `indent` in front.
std::string wrapped(const std::string &text, std::size_t indent) {
  constexpr std::size_t kWidth = 100;
  std::string out;
  std::string line;
  for (std::size_t at = 0; at < text.size();) {
    const std::size_t end = std::min(text.find(' ', at), text.size());
    const std::string word = text.substr(at, end - at);
    if (!line.empty() && indent + line.size() + 1 + word.size() > kWidth) {
      out += std::string(indent, ' ') + line + "\n";
      line.clear();
    }
    line += (line.empty() ? "" : " ") + word;
    at = end + 1;
  }
  return line.empty() ? out : out + std::string(indent, ' ') + line + "\n";
}

std::string entry(const std::string &title, const std::string &text) {
  return "  " + title + "\n" + wrapped(text, 6);
}

std::string compared(const std::vector<SetRow> &rows, Difference::Kind kind) {
  std::string out;
  for (const SetRow &each : rows) {
    if (each.row->origin == Origin::kFpm && each.row->difference.kind == kind)
      out += entry(each.row->name, each.row->difference.why);
  }
  return out;
}

// Without being set.
std::string better_by_default(const LoadResult &loaded) {
  constexpr char kName[] = "process_control_timeout";
  if (loaded.places.contains({"", kName}))
    return "";
  return entry(std::string(kName) + " (not set)", find_row(Scope::kGlobal, kName)->difference.why);
}

// --- what needs a decision -------------------------------------------------------------------------------------------

std::string of_running(const MigrationFacts &facts) {
  std::string out;
  for (const std::string &each : facts.running)
    out += entry("php-fpm is running", each + ". Stop it before tqfpm takes its sockets and its pid file.");
  for (const auto &[pool, holder] : facts.in_use)
    out += entry("pool " + pool + ": listen", "Its address is in use now, by " + holder + ".");
  return out;
}

std::string of_memory(const LoadResult &loaded, const MigrationFacts &facts) {
  std::uint64_t workers = 0;
  for (const PoolConfig &pool : loaded.config.pools)
    workers += static_cast<std::uint64_t>(std::max<std::int64_t>(pool.pm_max_children, 0));
  const auto most = static_cast<std::uint64_t>(loaded.config.global.process_max);
  workers = most > 0 ? std::min(workers, most) : workers;
  constexpr std::uint64_t kMega = 1ULL << 20;
  if (facts.memory == 0 || workers * kTypicalWorker <= facts.memory)
    return "";
  return entry(
      "pm.max_children",
      fmt::format("{} workers of all pools together, at {} MB for a usual application, are {} MB; {} has {} MB. "
                  "Fewer serve as many requests: those beyond wait in the queue. pm.max_memory bounds a "
                  "worker, process.max all of them.",
                  workers, kTypicalWorker / kMega, workers * kTypicalWorker / kMega, facts.memory_of,
                  facts.memory / kMega));
}

std::string of_users(const LoadResult &loaded) {
  std::map<std::string, std::vector<std::string>> pools;
  std::string out;
  for (const PoolConfig &pool : loaded.config.pools) {
    if (!pool.user.empty())
      pools[pool.user].push_back(pool.name);
  }
  for (const auto &[user, names] : pools) {
    if (names.size() > 1)
      out += entry("user = " + user, "Pools " + joined(names) +
                                         " share it: the scripts of one can read the files of the others, and end "
                                         "their processes.");
  }
  return out;
}

std::string of_sockets(const LoadResult &loaded) {
  std::string out;
  for (const PoolConfig &pool : loaded.config.pools) {
    if (pool.listen.kind == Address::Kind::kTcp && !is_loopback(pool.listen.host) &&
        pool.listen_allowed_clients.empty())
      out +=
          entry("pool " + pool.name + ": listen = " + pool.listen.text,
                "Other hosts reach it, and whoever does can run any PHP file here. Set listen.allowed_clients, which "
                "takes networks, too.");
  }
  return out;
}

std::string of_files(const LoadResult &loaded) {
  std::string out;
  const GlobalConfig &global = loaded.config.global;
  if (loaded.places.contains({"", "error_log"}) && global.error_log != "syslog")
    out +=
        entry("error_log = " + global.error_log, "Kept. What rotates it must send SIGUSR1 to tqfpm, not to php-fpm.");
  if (loaded.places.contains({"", "pid"}))
    out += entry("pid = " + global.pid, "Kept. php-fpm's service would overwrite it.");
  return out;
}

std::string of_packages(const MigrationFacts &facts) {
  std::string out;
  for (const std::string &each : facts.packages)
    out += entry("php-cgi", "is missing: apt install " + each);
  return out;
}

} // namespace

std::vector<MigratedFile> migrated_files(const LoadResult &loaded, const std::string &from, const std::string &folder) {
  const std::string head =
      "; Made by tqfpm --migrate from " + from + ".\n; What is not here has its default: see tqfpm.conf(5).\n\n";
  std::vector<MigratedFile> files;
  files.push_back({"tqfpm.conf", head + global_text(loaded) +
                                     "\n; One file for each pool. Change this line when the files move.\ninclude = " +
                                     quote(folder + "/tqfpm.d/*.conf") + "\n"});
  for (const PoolConfig &pool : loaded.config.pools)
    files.push_back({"tqfpm.d/" + file_of(pool.name), head + pool_text(loaded, pool)});
  return files;
}

std::string migration_report(const LoadResult &loaded, const MigrationFacts &facts) {
  const std::vector<SetRow> rows = set_rows(loaded);
  std::vector<std::string> same;
  for (const SetRow &each : rows) {
    if (each.row->origin == Origin::kFpm && each.row->difference.kind == Difference::Kind::kSame)
      same.emplace_back(each.row->name);
  }
  std::string out = fmt::format("{} -> {}, {} pool{}\n", facts.from, facts.folder, loaded.config.pools.size(),
                                loaded.config.pools.size() == 1 ? "" : "s");
  out += "\nThe same as with php-fpm:\n" + wrapped(same.empty() ? "nothing else is set" : joined(same), 2);
  out += "\nBetter now, with the same lines:\n" + compared(rows, Difference::Kind::kBetter) + better_by_default(loaded);
  const std::string decisions = of_packages(facts) + of_running(facts) + compared(rows, Difference::Kind::kDifferent) +
                                of_memory(loaded, facts) + of_users(loaded) + of_sockets(loaded) + of_files(loaded);
  out += "\nFor you to decide:\n" + (decisions.empty() ? std::string("  nothing\n") : decisions);
  return out + fmt::format("\nThen: tqfpm -y {}/tqfpm.conf\n", facts.folder);
}

} // namespace tqfpm::config
