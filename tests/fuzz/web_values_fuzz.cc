// config::web_values: texts that a web server sends become settings with PHP's names only, in linear time.
#include <set>

#include "config/web_values.h"
#include "growth.h"
#include "input.h"
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

std::string repeated(std::string_view text, std::size_t length) {
  std::string out;
  while (out.size() < length)
    out += text;
  return out;
}

// Eight times the text may take eight times the time, and some more; now and then, since a clock is slow.
void check_growth(std::string_view text) {
  constexpr std::size_t kSmall = 2000;
  const std::string texts[] = {repeated(text, kSmall), repeated(text, kSmall * 8)};
  for (int attempt = 0; attempt < 5; ++attempt) {
    const double ratio =
        growth([&](int which) { (void)config::web_values(texts[which].substr(0, config::kMaxWebValues), "", "", ""); });
    if (ratio < 24)
      return;
  }
  FUZZ_CHECK(false && "time is linear");
}

} // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t *data, std::size_t size) {
  fuzz::Input input(data, size);
  const unsigned kind = input.byte();
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
  if (kind == 255 && !rest.empty() && rest.size() < 100)
    check_growth(rest);
  return 0;
}
