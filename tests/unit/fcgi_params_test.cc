#include "fcgi/params.h"
#include "php/basic_user.h"
#include "php/script_path.h"

#include <gtest/gtest.h>

namespace tqfpm::fcgi {
namespace {

std::string pair(std::string_view name, std::string_view value) {
  std::string out;
  append_pair(out, name, value);
  return out;
}

TEST(Params, LengthsOfOneAndFourBytes) {
  for (const std::size_t size : {0U, 1U, 127U, 128U, 255U, 256U, 60000U}) {
    const std::string value(size, 'v');
    const std::string encoded = pair("NAME", value);
    EXPECT_EQ(encoded.size(), (size < 128 ? 2 : 5) + 4 + size);
    Params params;
    ASSERT_TRUE(params.assign(encoded)) << size;
    EXPECT_EQ(params.get("NAME"), value);
  }
}

TEST(Params, TheLastOfOneNameCounts) {
  Params params;
  ASSERT_TRUE(params.assign(pair("A", "1") + pair("B", "2") + pair("A", "3")));
  EXPECT_EQ(params.get("A"), "3");
  EXPECT_EQ(params.size(), 3U);
  EXPECT_FALSE(params.find("a").has_value());
  EXPECT_EQ(params.get("C"), "");
}

TEST(Params, EveryCutOfAPairIsMalformed) {
  const std::string whole = pair("SCRIPT_NAME", std::string(300, 'x'));
  for (std::size_t length = 1; length < whole.size(); ++length) {
    Params params;
    EXPECT_FALSE(params.assign(whole.substr(0, length))) << length;
  }
  Params params;
  EXPECT_TRUE(params.assign(whole));
  EXPECT_TRUE(params.assign(""));
}

TEST(Params, APairThatFitsNoRecordIsRefused) {
  Params params;
  EXPECT_TRUE(params.assign(pair("N", std::string(65535 - 6, 'x'))));
  EXPECT_FALSE(params.assign(pair("N", std::string(65535 - 5, 'x'))));
}

TEST(Params, SetReplaces) {
  Params params;
  ASSERT_TRUE(params.assign(pair("A", "1") + pair("B", "2")));
  params.set("A", std::string(200, 'n'));
  params.set("C", "");
  EXPECT_EQ(params.get("A"), std::string(200, 'n'));
  EXPECT_EQ(params.get("B"), "2");
  EXPECT_EQ(params.find("C"), "");
  Params again;
  ASSERT_TRUE(again.assign(params.content()));
  EXPECT_EQ(again.get("A"), params.get("A"));
}

TEST(LockedScript, BeginsWithAFolderThatHasASection) {
  const std::vector<std::string> folders = {"home", "srv", "var"};
  for (const char *same : {"/srv/a.php", "/var/www/x/index.php", "/./a.php", "./a.php", ""})
    EXPECT_EQ(php::locked_script(same, folders), same);
  EXPECT_EQ(php::locked_script("/a.php", folders), "/./a.php");
  EXPECT_EQ(php::locked_script("/srv", folders), "/./srv");
  EXPECT_EQ(php::locked_script("/new/a.php", folders), "/./new/a.php");
  EXPECT_EQ(php::locked_script("//srv/a.php", folders), "/srv/a.php");
  EXPECT_EQ(php::locked_script("/../srv/a.php", folders), "/./../srv/a.php");
  EXPECT_EQ(php::locked_script("a.php", folders), "./a.php");
  EXPECT_EQ(php::locked_script("../a.php", folders), "./../a.php");
}

TEST(Params, LengthsThatOverflowAreMalformed) {
  Params params;
  EXPECT_FALSE(params.assign(std::string("\xff\xff\xff\xff\xff\xff\xff\xff", 8)));
  EXPECT_FALSE(params.assign(std::string("\x01\xff\xff\xff\xff", 5) + "x"));
}

TEST(BasicUser, FromTheAuthorizationHeader) {
  EXPECT_EQ(php::basic_user("Basic Ym9iOnB3"), "bob");
  EXPECT_EQ(php::basic_user("basic Ym9iOg=="), "bob");
  EXPECT_EQ(php::basic_user("Basic Ym9i"), ""); // no colon
  EXPECT_EQ(php::basic_user("Bearer Ym9iOnB3"), "");
  EXPECT_EQ(php::basic_user("Basic Ym9!"), "");
  EXPECT_EQ(php::basic_user(""), "");
}

} // namespace
} // namespace tqfpm::fcgi
