// PHP settings that web servers send.
#include <gtest/gtest.h>

#include "config/table.h"
#include "config/web_values.h"
#include "growth.h"

namespace tqfpm::config {
namespace {

std::string value_of(const std::vector<KeyValue> &settings, const std::string &key) {
  for (const KeyValue &each : settings) {
    if (each.key == key)
      return each.value;
  }
  return "(none)";
}

TEST(WebValues, LinesOfPhpIni) {
  const WebValues values = web_values("memory_limit = 64M\n max_execution_time=30 ; seconds\nuser_agent = \"a;b\"",
                                      "display_errors=on", "open_basedir=/srv/a:/tmp\n", "allow_url_fopen = off");
  EXPECT_TRUE(values.mistakes.empty());
  EXPECT_EQ(value_of(values.user, "memory_limit"), "64M");
  EXPECT_EQ(value_of(values.user, "max_execution_time"), "30");
  EXPECT_EQ(value_of(values.user, "user_agent"), "a;b");
  EXPECT_EQ(value_of(values.user, "display_errors"), "1");
  EXPECT_EQ(value_of(values.admin, "open_basedir"), "/srv/a:/tmp");
  EXPECT_EQ(value_of(values.admin, "allow_url_fopen"), "0");
  EXPECT_TRUE(web_values("", "", "", "").empty());
}

TEST(WebValues, WhatIsNoSettingIsAMistake) {
  const WebValues values = web_values("nonsense\n[PATH=/]\nx[]=1\na b = 1\nok=1", "display_errors=perhaps", "", "");
  EXPECT_EQ(values.mistakes.size(), 5U);
  EXPECT_EQ(values.user.size(), 1U);
}

// PHP would end reading at them, and the settings behind would be lost.
TEST(WebValues, WordsThatAreValuesAreNoNames) {
  const WebValues values = web_values("on=1\nNULL=1\nno=1\nnone=1\nTrue=1", "off=on\nyes=on", "false=1", "");
  EXPECT_EQ(values.mistakes.size(), 8U);
  EXPECT_TRUE(values.empty());
}

TEST(WebValues, MistakesAreToldUpToANumber) {
  std::string text;
  for (int i = 0; i < 100; ++i)
    text += "x\n";
  const WebValues values = web_values(text, "", "", "");
  ASSERT_EQ(values.mistakes.size(), 9U);
  EXPECT_EQ(values.mistakes.back(), "92 more mistakes");
  const WebValues name = web_values("", std::string(9000, 'n') + "=perhaps", "", "");
  ASSERT_EQ(name.mistakes.size(), 1U);
  EXPECT_LT(name.mistakes.front().size(), 200U);
}

TEST(WebValues, TooLongTextsAreRefusedAsAWhole) {
  const std::string half = "a=" + std::string(kMaxWebValues / 2 - 2, 'x');
  EXPECT_FALSE(web_values(half, "", half, "").too_long);
  const WebValues values = web_values(half, "", half + "x", "");
  EXPECT_TRUE(values.too_long);
  EXPECT_TRUE(values.empty());
  ASSERT_EQ(values.mistakes.size(), 1U);
  EXPECT_EQ(values.mistakes.front(), "more than 16384 bytes of them, all are refused");
}

TEST(WebValues, ManySettingsTakeLinearTime) {
  std::string settings[2];
  for (int i = 0; settings[1].size() < kMaxWebValues; ++i) {
    const std::string line = "x" + std::to_string(i) + "=\n";
    settings[1] += line;
    if (settings[1].size() < kMaxWebValues / 8)
      settings[0] += line;
  }
  settings[1].resize(kMaxWebValues);
  const PoolConfig pool = default_pool("www");
  EXPECT_LT(growth([&](int large) { with_web_values(pool, web_values(settings[large], "", "", "")); }), 24);
}

TEST(WebValues, TheKeyDoesNotDependOnTheOrder) {
  const auto key = [](const char *user, const char *admin) { return web_values(user, "", admin, "").key(); };
  EXPECT_EQ(key("a=1\nb=2", ""), key("b = 2\na = \"1\"", ""));
  EXPECT_NE(key("a=1", ""), key("", "a=1"));
  EXPECT_NE(key("a=1\nb=2", ""), key("a=12", ""));
}

TEST(WebValues, WhoWins) {
  PoolConfig pool = default_pool("www");
  pool.php_value = {{"precision", "5"}, {"memory_limit", "1M"}};
  pool.php_flag = {{"html_errors", "1"}};
  pool.php_admin_value = {{"open_basedir", "/srv"}};
  pool.php_admin_flag = {{"log_errors", "1"}};
  const PoolConfig user =
      with_web_values(pool, web_values("precision=9\nopen_basedir=/\nlog_errors=0\nhtml_errors=0", "", "", ""));
  EXPECT_EQ(value_of(user.php_value, "precision"), "9");
  EXPECT_EQ(value_of(user.php_value, "memory_limit"), "1M");
  EXPECT_EQ(value_of(user.php_value, "html_errors"), "0");
  EXPECT_TRUE(user.php_flag.empty());
  EXPECT_EQ(value_of(user.php_value, "open_basedir"), "(none)"); // the pool's admin value stays
  EXPECT_EQ(value_of(user.php_admin_flag, "log_errors"), "1");
  const PoolConfig admin = with_web_values(pool, web_values("", "", "open_basedir=/x\nlog_errors=0", ""));
  EXPECT_EQ(value_of(admin.php_admin_value, "open_basedir"), "/x");
  EXPECT_EQ(value_of(admin.php_admin_value, "log_errors"), "0");
  EXPECT_TRUE(admin.php_admin_flag.empty());
}

} // namespace
} // namespace tqfpm::config
