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
    ASSERT_EQ(params.assign(encoded), Params::Verdict::kGood) << size;
    EXPECT_EQ(params.get("NAME"), value);
  }
}

TEST(Params, TheLastOfOneNameCounts) {
  Params params;
  ASSERT_EQ(params.assign(pair("A", "1") + pair("B", "2") + pair("A", "3")), Params::Verdict::kGood);
  EXPECT_EQ(params.get("A"), "3");
  EXPECT_EQ(params.size(), 3U);
  EXPECT_FALSE(params.find("a").has_value());
  EXPECT_EQ(params.get("C"), "");
}

TEST(Params, EveryCutOfAPairIsMalformed) {
  const std::string whole = pair("SCRIPT_NAME", std::string(300, 'x'));
  for (std::size_t length = 1; length < whole.size(); ++length) {
    Params params;
    EXPECT_EQ(params.assign(whole.substr(0, length)), Params::Verdict::kMalformed) << length;
  }
  Params params;
  EXPECT_EQ(params.assign(whole), Params::Verdict::kGood);
  EXPECT_EQ(params.assign(""), Params::Verdict::kGood);
}

TEST(Params, APairThatFitsNoRecordIsRefused) {
  Params params;
  EXPECT_EQ(params.assign(pair("N", std::string(65535 - 6, 'x'))), Params::Verdict::kGood);
  EXPECT_EQ(params.assign(pair("N", std::string(65535 - 5, 'x'))), Params::Verdict::kMalformed);
}

TEST(Params, TooManyPairsAreNotTaken) {
  std::string most;
  for (std::size_t i = 0; i < Params::kMaxPairs; ++i)
    append_pair(most, "", "");
  Params params;
  EXPECT_EQ(params.assign(most), Params::Verdict::kGood);
  EXPECT_EQ(params.size(), Params::kMaxPairs);
  params.set("A", "1"); // what tqfpm adds itself does not count, here and below
  params.remove("B");
  EXPECT_EQ(params.get("A"), "1");
  EXPECT_EQ(params.assign(most + pair("A", "1")), Params::Verdict::kTooMany);
  EXPECT_EQ(params.size(), 0U);
  EXPECT_EQ(params.content(), "");
  EXPECT_EQ(params.assign(most + "x"), Params::Verdict::kMalformed);
}

TEST(Params, RemovalKeepsWhatWasAddedUnseen) {
  Params params;
  ASSERT_EQ(params.assign(pair("A_B", "1") + pair("C", "2")), Params::Verdict::kGood);
  EXPECT_TRUE(params.hide("A_B"));
  params.add_unseen("A_B", "3");
  params.remove("D");
  EXPECT_EQ(params.get("A_B"), "3");
  EXPECT_EQ(params.get("C"), "2");
}

TEST(Params, SetReplaces) {
  Params params;
  ASSERT_EQ(params.assign(pair("A", "1") + pair("B", "2")), Params::Verdict::kGood);
  params.set("A", std::string(200, 'n'));
  params.set("C", "");
  EXPECT_EQ(params.get("A"), std::string(200, 'n'));
  EXPECT_EQ(params.get("B"), "2");
  EXPECT_EQ(params.find("C"), "");
  Params again;
  ASSERT_EQ(again.assign(params.content()), Params::Verdict::kGood);
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
  EXPECT_EQ(params.assign(std::string("\xff\xff\xff\xff\xff\xff\xff\xff", 8)), Params::Verdict::kMalformed);
  EXPECT_EQ(params.assign(std::string("\x01\xff\xff\xff\xff", 5) + "x"), Params::Verdict::kMalformed);
}

TEST(BasicUser, FromTheAuthorizationHeader) {
  EXPECT_EQ(php::basic_user("Basic Ym9iOnB3"), "bob");
  EXPECT_EQ(php::basic_user("basic Ym9iOg=="), "bob");
  EXPECT_EQ(php::basic_user("Basic Ym9i"), ""); // no colon
  EXPECT_EQ(php::basic_user("Bearer Ym9iOnB3"), "");
  EXPECT_EQ(php::basic_user("Basic Ym9!"), "");
  EXPECT_EQ(php::basic_user(""), "");
}

TEST(Params, AHiddenOneIsFoundByItsOwnNameAlone) {
  Params params;
  ASSERT_EQ(params.assign(pair("A_B", "1") + pair("X_Y_Z", "2")), Params::Verdict::kGood);
  EXPECT_TRUE(params.hide("A_B"));
  EXPECT_TRUE(params.hide("X_Y_Z"));
  EXPECT_EQ(params.get("A_B"), "1");
  EXPECT_EQ(params.get("X_Y_Z"), "2");
  for (const char *name : {"A.B", "A._", "AX_", "A.B_", "X._Z", "X.Y_", "X.Y.Z", "X_Y.Z", "X__Z"})
    EXPECT_FALSE(params.find(name).has_value()) << name;
}

} // namespace
} // namespace tqfpm::fcgi
