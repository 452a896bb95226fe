#include "config/web_values.h"

#include <algorithm>
#include <map>

#include "config/ini_source.h"
#include "php/ini_text.h"

namespace tqfpm::config {

namespace {

constexpr std::size_t kMaxMistakes = 8; // that are told one by one

// Adds to a list in which a name occurs once.
class Settings {
public:
  explicit Settings(std::vector<KeyValue> &list) : list_(list) {
    for (std::size_t i = 0; i < list.size(); ++i)
      places_.emplace(list[i].key, i);
  }
  void set(const KeyValue &setting) {
    const auto [place, is_new] = places_.emplace(setting.key, list_.size());
    if (is_new)
      list_.push_back(setting);
    else
      list_[place->second].value = setting.value;
  }

private:
  std::vector<KeyValue> &list_;
  std::map<std::string, std::size_t> places_;
};

bool has(const std::vector<KeyValue> &settings, const std::string &key) {
  return std::any_of(settings.begin(), settings.end(), [&](const KeyValue &each) { return each.key == key; });
}

void forget(std::vector<KeyValue> &settings, const std::string &key) {
  std::erase_if(settings, [&](const KeyValue &each) { return each.key == key; });
}

class Texts {
public:
  explicit Texts(WebValues &values) : values_(values) {}
  void read(std::string_view text, bool flags, Settings &settings);
  void finish() {
    if (mistakes_ > kMaxMistakes)
      values_.mistakes.push_back(std::to_string(mistakes_ - kMaxMistakes) + " more mistakes");
  }

private:
  void complain(const std::string &what) {
    if (++mistakes_ <= kMaxMistakes)
      values_.mistakes.push_back(what);
  }
  WebValues &values_;
  std::size_t mistakes_ = 0;
};

// A key with [] is none that PHP has; a section or a stray word is no setting.
void Texts::read(std::string_view text, bool flags, Settings &settings) {
  if (text.empty())
    return;
  for (const IniItem &item : read_ini(text, nullptr)) {
    KeyValue setting{item.entry.key, item.entry.value};
    // The script is judged before PHP looks for it: what moves PHP's search elsewhere is the pool's own business.
    const bool moves = setting.key == "doc_root" || setting.key == "user_dir";
    const bool good = !moves && item.kind == IniItem::Kind::kEntry && !item.entry.array_key &&
                      php::is_setting_name(setting.key) && setting.value.find('\0') == std::string::npos;
    const std::string name = setting.key.substr(0, 80);
    std::vector<KeyValue> flag;
    if (!good)
      complain(item.kind == IniItem::Kind::kError ? item.error : "'" + name + "' is no setting that can be sent");
    else if (!flags)
      settings.set(setting);
    else if (Entry entry{"flag", setting.key, setting.value, false}; codec::Flags::parse(entry, {}, flag).empty())
      settings.set(flag.front());
    else
      complain(name + ": '" + setting.value.substr(0, 80) + "' is neither on nor off");
  }
}

} // namespace

WebValues web_values(std::string_view value, std::string_view flag, std::string_view admin_value,
                     std::string_view admin_flag) {
  WebValues values;
  if (value.size() + flag.size() + admin_value.size() + admin_flag.size() > kMaxWebValues) {
    values.too_long = true;
    values.mistakes.push_back("more than " + std::to_string(kMaxWebValues) + " bytes of them, all are refused");
    return values;
  }
  Texts texts(values);
  Settings user(values.user);
  texts.read(value, false, user);
  texts.read(flag, true, user);
  Settings admin(values.admin);
  texts.read(admin_value, false, admin);
  texts.read(admin_flag, true, admin);
  texts.finish();
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
  Settings user(result.php_value);
  Settings admin(result.php_admin_value);
  for (const KeyValue &each : values.user) {
    if (has(pool.php_admin_value, each.key) || has(pool.php_admin_flag, each.key))
      continue;
    forget(result.php_flag, each.key);
    user.set(each);
  }
  for (const KeyValue &each : values.admin) {
    forget(result.php_admin_flag, each.key);
    admin.set(each);
  }
  return result;
}

} // namespace tqfpm::config
