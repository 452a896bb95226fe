// The -d arguments of php-cgi: whatever values and folder names say, PHP reads the settings that are meant and no
// others. PHP's parser is here as a strict model of it, which knows no more than what we write; that PHP agrees is
// looked at by tests/process/test_ini_roundtrip.py.
#include <optional>
#include <vector>

#include "base/text.h"
#include "input.h"
#include "php/ini_text.h"
#include "php/script_path.h"
#include "spawner/php_command.h"

// php_command() looks for one folder.
namespace tqfpm::sys {
bool is_folder(const std::string &) {
  return false;
}
} // namespace tqfpm::sys

namespace {

using namespace tqfpm;

struct Setting {
  std::string section;
  std::string name;
  std::string value;
  bool operator==(const Setting &) const = default;
};

// Reads lines of php.ini; anything but NAME=VALUE and [PATH=/NAME] ends the run.
class PhpIni {
public:
  explicit PhpIni(std::string_view text) : rest_(text) {}
  void into(std::vector<Setting> &settings) {
    std::string section;
    while (!rest_.empty()) {
      if (rest_.front() == '\n') {
        rest_.remove_prefix(1);
      } else if (rest_.front() == '[') {
        section = until(']');
        FUZZ_CHECK(section.starts_with("[PATH="));
        section.erase(0, 6);
        for (const char c : section)
          FUZZ_CHECK(is_label(c) || c == '/');
        FUZZ_CHECK(until('\n').empty());
      } else {
        const std::string name = until('=');
        FUZZ_CHECK(php::is_setting_name(name));
        settings.push_back({section, name, value()});
      }
    }
  }

private:
  static bool is_label(char c) {
    return std::isalnum(static_cast<unsigned char>(c)) != 0 || c == '_' || c == '.' || c == '-';
  }
  // Words with operators between them; what PHP takes for true, false or null stands alone.
  static bool is_expression(std::string_view text) {
    const bool alone = text.find_first_of("&|^ ") == std::string_view::npos;
    for (bool first = true;; first = false) {
      const std::size_t end = text.find_first_of("&|^");
      std::string_view word = trim(text.substr(0, end));
      if (!first && word.starts_with('~'))
        word.remove_prefix(1);
      if (word.find_first_not_of("ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_") != std::string_view::npos || word.empty())
        return false;
      for (const char *each : {"TRUE", "ON", "YES", "FALSE", "OFF", "NO", "NONE", "NULL"})
        FUZZ_CHECK(alone || word != each);
      if (end == std::string_view::npos)
        return text.back() != ' ';
      text.remove_prefix(end + 1);
    }
  }
  std::string until(char end) {
    const std::size_t at = rest_.find(end);
    FUZZ_CHECK(at != std::string_view::npos);
    const std::string text(rest_.substr(0, at));
    rest_.remove_prefix(at + 1);
    return text;
  }
  std::string value() {
    std::string out;
    if (rest_.front() == '\'' || rest_.front() == '"') {
      while (rest_.front() != '\n') {
        const char mark = rest_.front();
        FUZZ_CHECK(mark == '\'' || mark == '"');
        rest_.remove_prefix(1);
        const std::string piece = until(mark);
        FUZZ_CHECK(mark == '\'' || piece.find_first_not_of('\'') == std::string::npos);
        out += piece;
      }
      rest_.remove_prefix(1);
      return out;
    }
    out = until('\n');
    FUZZ_CHECK(out == "${tqfpm.fix_pathinfo}" || is_expression(out));
    return out;
  }

  std::string_view rest_;
};

// As php-cgi takes a -d argument: NAME=VALUE becomes a line, and a value that begins oddly is put in quotes.
void read_argument(const std::string &argument, std::vector<Setting> &settings) {
  FUZZ_CHECK(argument.starts_with("-d") && argument.find('\0') == std::string::npos);
  const std::size_t equals = argument.find('=');
  FUZZ_CHECK(equals != std::string::npos);
  const std::string_view value = std::string_view(argument).substr(equals + 1);
  FUZZ_CHECK(!value.empty());
  const char first = value.front();
  if (first == '$') { // our own reference to another setting: php-cgi quotes it
    FUZZ_CHECK(value.find_first_of("\n\"'") == std::string_view::npos);
    settings.push_back({"", argument.substr(2, equals - 2), std::string(value)});
    return;
  }
  FUZZ_CHECK(std::isalnum(static_cast<unsigned char>(first)) != 0 || first == '"' || first == '\'');
  PhpIni(argument.substr(2) + "\n").into(settings);
}

std::vector<config::KeyValue> a_list(fuzz::Input &input) {
  constexpr const char *kNames[] = {"memory_limit", "open_basedir", "extension",
                                    "opcache.x",    "on",           "auto_prepend_file"};
  constexpr const char *kValues[] = {"E_ALL & ~E_NOTICE", "1", "NULL | 1", "A &", "x]\n[PHP]\nextension=y", "${HOME}"};
  std::vector<config::KeyValue> list;
  for (std::size_t left = input.below(5); left > 0; --left) {
    const std::size_t name = input.below(std::size(kNames) + 2);
    const std::size_t value = input.below(std::size(kValues) + 6);
    list.push_back({name < std::size(kNames) ? kNames[name] : input.text(20),
                    value < std::size(kValues) ? kValues[value] : input.text(60)});
  }
  return list;
}

// What is left for PHP to evaluate is the value itself here.
void expect(std::vector<Setting> &expected, const std::string &section, const std::vector<config::KeyValue> &list) {
  for (const config::KeyValue &each : list) {
    if (php::is_setting_name(each.key) && each.value.find('\0') == std::string::npos)
      expected.push_back({section, each.key, each.value});
  }
}

void check_section(const std::vector<Setting> &found, const std::string &path, const config::PoolConfig &pool) {
  std::vector<Setting> expected;
  expect(expected, path, pool.php_admin_value);
  expect(expected, path, pool.php_admin_flag);
  constexpr std::string_view kFixed[] = {"extension",       "zend_extension",   "disable_functions",
                                         "disable_classes", "cgi.fix_pathinfo", "cgi.discard_path"};
  std::erase_if(expected, [&kFixed](const Setting &each) {
    return each.name.starts_with("apc.") || each.name.starts_with("opcache.") ||
           std::find(std::begin(kFixed), std::end(kFixed), each.name) != std::end(kFixed);
  });
  std::vector<Setting> there;
  for (const Setting &each : found) {
    if (each.section == path && each.name != "cgi.fix_pathinfo")
      there.push_back(each);
  }
  FUZZ_CHECK(there == expected);
}

} // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t *data, std::size_t size) {
  fuzz::Input input(data, size);
  config::PoolConfig pool;
  pool.php_binary = "/usr/bin/php-cgi";
  pool.clear_env = true;
  pool.php_value = a_list(input);
  pool.php_admin_value = a_list(input);
  pool.php_admin_flag = a_list(input);
  std::vector<std::string> folders = {"srv", "var"};
  for (std::size_t left = input.below(4); left > 0; --left)
    folders.push_back(input.text(40));
  std::sort(folders.begin(), folders.end());
  folders.erase(std::unique(folders.begin(), folders.end()), folders.end());
  const auto chosen = spawner::section_folders(pool, folders);
  FUZZ_CHECK(chosen.size() <= 32);
  char *const environment[] = {nullptr};
  const auto command = spawner::php_command(pool, {}, nullptr, const_cast<char **>(environment), chosen, true);
  std::vector<Setting> found;
  for (std::size_t i = 1; i < command.arguments.size(); ++i)
    read_argument(command.arguments[i], found);
  std::vector<Setting> expected;
  expect(expected, "", pool.php_value);
  expect(expected, "", pool.php_admin_value);
  expect(expected, "", pool.php_admin_flag);
  FUZZ_CHECK(found.size() >= expected.size() && std::equal(expected.begin(), expected.end(), found.begin()));
  for (const std::string &folder : chosen)
    check_section(found, "/" + folder, pool);
  check_section(found, "/.", pool);
  check_section(found, ".", pool);
  // A script below a folder without a section of its own goes by another path.
  for (const std::string &folder : folders) {
    const std::string script = "/" + folder + "/x.php";
    const std::string locked = php::locked_script(script, chosen);
    FUZZ_CHECK(locked == "/." + script || php::is_section_name(folder) || folder.find('/') != std::string::npos ||
               folder.empty());
  }
  return 0;
}
