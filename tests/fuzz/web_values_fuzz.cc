// config::web_values: texts that a web server sends become settings with PHP's names only, in linear time.
#include <set>

#include "config/web_values.h"
#include "input.h"
#include "linear.h"
#include "php/ini_text.h"

namespace {

using namespace tqfpm;

void check_list(const std::vector<config::KeyValue> &list, bool flags_alone) {
  std::set<std::string> names;
  for (const config::KeyValue &each : list) {
    FUZZ_CHECK(names.insert(each.key).second && !each.key.empty());
    FUZZ_CHECK(each.key != "doc_root" && each.key != "user_dir");
    FUZZ_CHECK(php::is_setting_name(each.key));
    FUZZ_CHECK(each.value.find('\0') == std::string::npos);
    FUZZ_CHECK(!flags_alone || each.value == "0" || each.value == "1");
  }
}

} // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t *data, std::size_t size) {
  fuzz::Input input(data, size);
  const std::size_t length = input.below(65536);
  const std::string value(input.take(length));
  const std::string_view rest = input.rest();
  const config::WebValues a = config::web_values(value, "", rest, "");
  const config::WebValues b = config::web_values("", value, "", rest);
  for (const config::WebValues *each : {&a, &b}) {
    check_list(each->user, each == &b);
    check_list(each->admin, each == &b);
    FUZZ_CHECK(each->mistakes.size() <= 9);
    FUZZ_CHECK(!each->too_long || each->empty());
  }
  config::PoolConfig pool;
  pool.php_admin_value = {{"memory_limit", "1M"}};
  pool.php_admin_flag = {{"html_errors", "0"}};
  const config::PoolConfig changed = config::with_web_values(pool, a);
  check_list(changed.php_value, false);
  check_list(changed.php_admin_value, false);
  FUZZ_CHECK(a.admin.empty() ? changed.php_admin_value == pool.php_admin_value : !changed.php_admin_value.empty());
  if (fuzz::now_and_then(rest))
    fuzz::check_linear(rest, config::kMaxWebValues / 8,
                       [](const std::string &text) { (void)config::web_values(text, "", "", ""); });
  return 0;
}
