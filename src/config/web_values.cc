#include "config/web_values.h"

#include <algorithm>

#include "config/ini_source.h"

namespace tqfpm::config {

namespace {

void set(std::vector<KeyValue> &settings, const KeyValue &setting) {
  const auto found =
      std::find_if(settings.begin(), settings.end(), [&](const KeyValue &each) { return each.key == setting.key; });
  if (found == settings.end())
    settings.push_back(setting);
  else
    found->value = setting.value;
}

bool has(const std::vector<KeyValue> &settings, const std::string &key) {
  return std::any_of(settings.begin(), settings.end(), [&](const KeyValue &each) { return each.key == key; });
}

void forget(std::vector<KeyValue> &settings, const std::string &key) {
  std::erase_if(settings, [&](const KeyValue &each) { return each.key == key; });
}

bool is_name(const std::string &key) {
  return !key.empty() && std::all_of(key.begin(), key.end(), [](unsigned char c) {
    return std::isalnum(c) != 0 || c == '_' || c == '.' || c == '-';
  });
}

// A key with [] is none that PHP has; a section or a stray word is no setting.
void read(std::string_view text, bool flags, std::vector<KeyValue> &settings, std::vector<std::string> &mistakes) {
  if (text.empty())
    return;
  for (const IniItem &item : read_ini(text, nullptr)) {
    KeyValue setting{item.entry.key, item.entry.value};
    // The script is judged before PHP looks for it: what moves PHP's search elsewhere is the pool's own business.
    const bool moves = setting.key == "doc_root" || setting.key == "user_dir";
    const bool good = !moves && item.kind == IniItem::Kind::kEntry && !item.entry.array_key && is_name(setting.key) &&
                      setting.value.find('\0') == std::string::npos;
    std::vector<KeyValue> flag;
    if (!good)
      mistakes.push_back(item.kind == IniItem::Kind::kError ? item.error
                                                            : "'" + setting.key + "' is no setting that can be sent");
    else if (!flags)
      set(settings, setting);
    else if (Entry entry{"flag", setting.key, setting.value, false}; codec::Flags::parse(entry, {}, flag).empty())
      set(settings, flag.front());
    else
      mistakes.push_back(setting.key + ": '" + setting.value + "' is neither on nor off");
  }
}

} // namespace

WebValues web_values(std::string_view value, std::string_view flag, std::string_view admin_value,
                     std::string_view admin_flag) {
  WebValues values;
  read(value, false, values.user, values.mistakes);
  read(flag, true, values.user, values.mistakes);
  read(admin_value, false, values.admin, values.mistakes);
  read(admin_flag, true, values.admin, values.mistakes);
  return values;
}

std::string WebValues::key() const {
  std::vector<std::string> lines;
  for (const KeyValue &each : user)
    lines.push_back("u" + each.key + "=" + each.value);
  for (const KeyValue &each : admin)
    lines.push_back("a" + each.key + "=" + each.value);
  std::sort(lines.begin(), lines.end());
  std::string out;
  for (const std::string &line : lines)
    out.append(line).push_back('\0');
  return out;
}

PoolConfig with_web_values(const PoolConfig &pool, const WebValues &values) {
  PoolConfig result = pool;
  for (const KeyValue &each : values.user) {
    if (has(pool.php_admin_value, each.key) || has(pool.php_admin_flag, each.key))
      continue;
    forget(result.php_flag, each.key);
    set(result.php_value, each);
  }
  for (const KeyValue &each : values.admin) {
    forget(result.php_admin_flag, each.key);
    set(result.php_admin_value, each);
  }
  return result;
}

} // namespace tqfpm::config
