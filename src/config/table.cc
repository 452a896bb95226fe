#include "config/table.h"

#include <algorithm>
#include <type_traits>

#include "base/text.h"

namespace tqfpm::config {

namespace {

using Edit = std::string (*)(const std::string &, bool, const PoolConfig &);

// $pool and relative paths can stand in any text; in numbers and names they cannot.
template <typename Codec> void edit_value(typename Codec::Value &value, Edit edit, const PoolConfig &pool) {
  using Value = typename Codec::Value;
  constexpr bool kIsPath = std::is_same_v<Codec, codec::Path>;
  if constexpr (std::is_same_v<Value, std::string>) {
    value = edit(value, kIsPath, pool);
  } else if constexpr (std::is_same_v<Value, std::vector<std::string>>) {
    for (std::string &each : value)
      each = edit(each, false, pool);
  } else if constexpr (std::is_same_v<Value, std::vector<KeyValue>>) {
    for (KeyValue &each : value)
      each.value = edit(each.value, false, pool);
  } else if constexpr (std::is_same_v<Value, Address>) {
    value.path = edit(value.path, true, pool);
    value.text = value.kind == Address::Kind::kUnix ? value.path : edit(value.text, false, pool);
  } else {
    (void)value, (void)edit, (void)pool;
  }
}

template <typename Codec> constexpr bool is_array() {
  return std::is_same_v<typename Codec::Value, std::vector<KeyValue>> || std::is_same_v<Codec, codec::PathArray>;
}

std::vector<Row> make_table() {
  using enum Origin;
  using enum State;
  std::vector<Row> rows;
#define GLOBAL(name, field, type, ...)                                                                                 \
  rows.push_back(                                                                                                      \
      Row{Directive{__VA_ARGS__}, Scope::kGlobal, name, codec::type::kWords, is_array<codec::type>(),                  \
          [](GlobalConfig &c, const Entry &e, const Range &r) { return codec::type::parse(e, r, c.field); }, nullptr,  \
          [](const GlobalConfig &c) { return codec::type::print(name, c.field); }, nullptr, nullptr});
#define POOL(name, field, type, ...)                                                                                   \
  rows.push_back(Row{Directive{__VA_ARGS__}, Scope::kPool, name, codec::type::kWords, is_array<codec::type>(),         \
                     nullptr,                                                                                          \
                     [](PoolConfig &c, const Entry &e, const Range &r) { return codec::type::parse(e, r, c.field); },  \
                     nullptr, [](const PoolConfig &c) { return codec::type::print(name, c.field); },                   \
                     [](PoolConfig &c, Edit edit) { edit_value<codec::type>(c.field, edit, c); }});
#include "config/directives.def"
#undef GLOBAL
#undef POOL
  return rows;
}

Entry default_entry(const Row &row) {
  Entry entry;
  entry.key = row.name;
  entry.value = row.by_default;
  return entry;
}

} // namespace

const std::vector<Row> &table() {
  static const std::vector<Row> rows = make_table();
  return rows;
}

const Row *find_row(Scope scope, std::string_view name) {
  const auto found = std::find_if(table().begin(), table().end(),
                                  [&](const Row &row) { return row.scope == scope && name == row.name; });
  return found == table().end() ? nullptr : &*found;
}

std::string nearest_name(Scope scope, const std::string &name) {
  constexpr std::size_t kLongest = 64; // the longest names have half of it; whole lines that are none take long
  std::string nearest;
  if (name.size() > kLongest)
    return nearest;
  std::size_t best = std::max<std::size_t>(2, name.size() / 4) + 1;
  for (const Row &row : table()) {
    const std::size_t distance = edit_distance(lower(name), row.name);
    if (row.scope == scope && distance < best) {
      best = distance;
      nearest = row.name;
    }
  }
  return nearest;
}

// An array's default is empty, and has no key to be parsed with.
GlobalConfig default_global() {
  GlobalConfig config;
  for (const Row &row : table()) {
    if (row.scope == Scope::kGlobal)
      (void)row.set_global(config, default_entry(row), row.range);
  }
  return config;
}

PoolConfig default_pool(const std::string &name) {
  PoolConfig config;
  config.name = name;
  for (const Row &row : table()) {
    if (row.scope == Scope::kPool && !row.array)
      (void)row.set_pool(config, default_entry(row), row.range);
  }
  return config;
}

} // namespace tqfpm::config
