#include "config/load.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>

#include "base/text.h"
#include "config/ini_source.h"
#include "config/rules.h"
#include "config/table.h"

namespace tqfpm::config {

namespace {

constexpr int kMaxIncludeDepth = 8;
constexpr char kGlobalSection[] = "global";

class Loader {
public:
  Loader(const LoadRequest &request, FileSource &source) : request_(request), source_(source) {
    result_.config.global = default_global();
  }

  LoadResult run() {
    read_file(request_.path, Location{request_.path, 0}, 0);
    finish_global();
    for (PoolConfig &pool : result_.config.pools)
      finish_pool(pool);
    apply_rules(result_);
    return std::move(result_);
  }

private:
  void say(Severity severity, const Location &where, const std::string &pool, const std::string &text,
           Lead lead = Lead::kPlace) {
    result_.messages.push_back(Message{severity, where, pool, text, lead});
  }
  void read_file(const std::string &path, const Location &from, int depth);
  void item(const IniItem &item, const Location &where, int depth);
  void include(const std::string &pattern, const Location &where, int depth);
  void set(const Entry &entry, const Location &where);
  void unknown(const Entry &entry, const Location &where);
  void refused(const Entry &entry, const Row &row, const Location &where, const std::string &error);
  void finish_global();
  void finish_pool(PoolConfig &pool);
  void resolve_environment(PoolConfig &pool);
  PoolConfig *pool() { return current_ < 0 ? nullptr : &result_.config.pools[static_cast<std::size_t>(current_)]; }
  void enter(const std::string &section, const Location &where);
  [[nodiscard]] std::string prefix() const {
    return request_.prefix.empty() ? request_.default_prefix : request_.prefix;
  }

  const LoadRequest &request_;
  FileSource &source_;
  LoadResult result_;
  std::vector<std::string> open_files_; // that include each other at the moment
  int current_ = -1;                    // pool, -1: [global]
};

void Loader::read_file(const std::string &path, const Location &from, int depth) {
  if (depth > kMaxIncludeDepth) {
    say(Severity::kError, from, "", fmt::format("include: more than {} files within each other", kMaxIncludeDepth));
    return;
  }
  if (std::find(open_files_.begin(), open_files_.end(), path) != open_files_.end()) {
    say(Severity::kError, from, "", "include: " + path + " includes itself");
    return;
  }
  const auto text = source_.read(path);
  if (!text.ok()) {
    const std::string why = "cannot read the configuration file " + path + ": " + text.error().message;
    say(Severity::kError, from, "", depth == 0 ? why + "; name another one with -y" : why);
    return;
  }
  open_files_.push_back(path);
  for (const IniItem &each : read_ini(text.value(), request_.environment))
    item(each, Location{path, each.line}, depth);
  open_files_.pop_back();
}

void Loader::item(const IniItem &item, const Location &where, int depth) {
  switch (item.kind) {
  case IniItem::Kind::kError:
    say(Severity::kError, where, pool() != nullptr ? pool()->name : "", item.error);
    return;
  case IniItem::Kind::kSection:
    enter(item.section, where);
    return;
  case IniItem::Kind::kEntry:
    if (item.entry.key == "include" && !item.entry.array_key)
      include(item.entry.value, where, depth);
    else
      set(item.entry, where);
    return;
  }
}

void Loader::enter(const std::string &section, const Location &where) {
  if (lower(section) == kGlobalSection) {
    current_ = -1;
    return;
  }
  if (section.empty() || section.find_first_of("/\\$\n") != std::string::npos) {
    say(Severity::kError, where, "", "'" + section + "' is no name for a pool");
    return;
  }
  auto &pools = result_.config.pools;
  const auto found =
      std::find_if(pools.begin(), pools.end(), [&](const PoolConfig &each) { return each.name == section; });
  current_ = static_cast<int>(found - pools.begin());
  if (found == pools.end()) {
    pools.push_back(default_pool(section));
    pools.back().where = where;
  }
}

void Loader::include(const std::string &pattern, const Location &where, int depth) {
  std::string path = pattern;
  if (path.empty() || path.front() != '/')
    path = prefix() + "/" + path;
  const bool literal = path.find_first_of("*?[") == std::string::npos;
  const int section = current_;
  if (literal) {
    read_file(path, where, depth + 1);
  } else {
    const auto files = source_.glob(path);
    if (!files.ok())
      say(Severity::kError, where, "", "include: cannot look up " + path + ": " + files.error().message);
    else if (files.value().empty())
      say(Severity::kWarning, where, "",
          "Nothing matches the include pattern '" + path + "' from " + where.file + " at line " +
              std::to_string(where.line) + ".");
    else
      for (const std::string &file : files.value())
        read_file(file, where, depth + 1);
  }
  current_ = section;
}

void Loader::unknown(const Entry &entry, const Location &where) {
  const Scope scope = current_ < 0 ? Scope::kGlobal : Scope::kPool;
  const Scope other = current_ < 0 ? Scope::kPool : Scope::kGlobal;
  std::string text = "unknown directive '" + entry.key + "'";
  if (find_row(other, entry.key) != nullptr)
    text =
        "'" + entry.key + (other == Scope::kPool ? "' belongs into the section of a pool" : "' belongs into [global]");
  else if (const std::string near = nearest_name(scope, entry.key); !near.empty())
    text += ", did you mean '" + near + "'?";
  say(Severity::kError, where, current_ < 0 ? "" : pool()->name, text);
}

// Some mistakes have lines of php-fpm's that are looked for as a whole; the place follows, or is in them as there.
void Loader::refused(const Entry &entry, const Row &row, const Location &where, const std::string &error) {
  const std::string name = pool() == nullptr ? "" : pool()->name;
  const bool low_limit = entry.key == "log_limit" && to_number(entry.value).value_or(INT64_MAX) < row.range.least;
  const bool bad_port = error.starts_with("invalid port");
  if (low_limit || bad_port) {
    say(Severity::kError, where, name, low_limit ? "log_limit must be greater than 512" : error, Lead::kNothing);
    say(Severity::kError, where, name, entry.key + " = " + entry.value + " cannot be used");
  } else if (error.find("'" + entry.key + "'") != std::string::npos) {
    say(Severity::kError, where, name, fmt::format("[{}:{}] {}", where.file, where.line, error), Lead::kNothing);
  } else {
    say(Severity::kError, where, name, entry.key + ": " + error);
  }
}

void Loader::set(const Entry &entry, const Location &where) {
  PoolConfig *target = pool();
  const Row *row = find_row(target == nullptr ? Scope::kGlobal : Scope::kPool, entry.key);
  if (row == nullptr) {
    unknown(entry, where);
    return;
  }
  const std::string name = target == nullptr ? "" : target->name;
  if (entry.array_key && !row->array) {
    say(Severity::kError, where, name, "'" + entry.key + "' takes no [" + *entry.array_key + "]");
    return;
  }
  const std::string error = target == nullptr ? row->set_global(result_.config.global, entry, row->range)
                                              : row->set_pool(*target, entry, row->range);
  if (!error.empty())
    refused(entry, *row, where, error);
  if (row->state == State::kNowhere)
    say(Severity::kNotice, where, name, "'" + entry.key + "' has no effect here, see tqfpm.conf(5)");
  result_.places[{name, row->name}] = where;
}

// --- after all files ------------------------------------------------------------------------------------------------

std::string absolute(const std::string &path, const std::string &prefix) {
  return path.empty() || path.front() == '/' ? path : prefix + "/" + path;
}

// pool.prefix is absolute when this is called.
std::string edit_text(const std::string &text, bool is_path, const PoolConfig &pool) {
  std::string out = replace_all(text, "$pool", pool.name);
  if (out.starts_with("$prefix"))
    out.replace(0, strlen("$prefix"), pool.prefix);
  if (is_path && !out.empty() && out.front() != '/')
    out = absolute(out, pool.prefix);
  return out;
}

void Loader::finish_global() {
  GlobalConfig &global = result_.config.global;
  global.pid = absolute(global.pid, prefix());
  if (global.error_log.empty())
    global.error_log = request_.default_error_log;
  if (global.error_log != "syslog")
    global.error_log = absolute(global.error_log, prefix());
}

void Loader::finish_pool(PoolConfig &pool) {
  const bool own_prefix = !pool.prefix.empty();
  pool.prefix = absolute(replace_all(own_prefix ? pool.prefix : prefix(), "$pool", pool.name), prefix());
  for (const Row &row : table()) {
    if (row.scope == Scope::kPool && row.edit_pool != nullptr && std::string_view(row.name) != "prefix")
      row.edit_pool(pool, &edit_text);
  }
  resolve_environment(pool);
  if (!own_prefix)
    pool.prefix.clear();
}

void Loader::resolve_environment(PoolConfig &pool) {
  std::erase_if(pool.env, [this](KeyValue &each) {
    if (!each.value.starts_with('$') || !request_.environment || request_.keep_environment)
      return false;
    const auto value = request_.environment(each.value.substr(1));
    each.value = value.value_or("");
    return !value; // as php-fpm: what tqfpm does not have, workers do not get
  });
}

} // namespace

std::string Message::str() const {
  std::string out;
  if (lead == Lead::kPlace && !where.file.empty())
    out = where.line > 0 ? fmt::format("{}:{}: ", where.file, where.line) : where.file + ": ";
  if (lead != Lead::kNothing && !pool.empty())
    out += "[pool " + pool + "] ";
  return out + text;
}

bool LoadResult::ok() const {
  return std::none_of(messages.begin(), messages.end(),
                      [](const Message &m) { return m.severity == Severity::kError; });
}

Location LoadResult::place(const PoolConfig &pool, const char *directive) const {
  const auto found = places.find({pool.name, directive});
  return found == places.end() ? pool.where : found->second;
}

void LoadResult::say(Severity severity, const PoolConfig &pool, const char *directive, const std::string &text,
                     Lead lead) {
  const Location where = severity == Severity::kNotice ? Location{} : place(pool, directive);
  messages.push_back(Message{severity, where, pool.name, text, lead});
}

LoadResult load(const LoadRequest &request, FileSource &source) {
  return Loader(request, source).run();
}

std::string php_from_path(const std::string &config_path) {
  constexpr std::string_view kDebian = "/etc/php/";
  if (!config_path.starts_with(kDebian))
    return "";
  const std::string version =
      config_path.substr(kDebian.size(), config_path.find('/', kDebian.size()) - kDebian.size());
  const bool plain = !version.empty() && version.find_first_not_of("0123456789.") == std::string::npos;
  return plain ? version : "";
}

std::string php_folder_from_path(const std::string &config_path) {
  const std::string version = php_from_path(config_path);
  if (version.empty())
    return "";
  const std::size_t kind = config_path.find(version) + version.size() + 1; // of "fpm" in /etc/php/8.2/fpm/...
  const std::size_t end = config_path.find('/', kind);
  return end == std::string::npos ? "" : config_path.substr(0, end);
}

} // namespace tqfpm::config
