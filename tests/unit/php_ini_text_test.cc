// What php-cgi's arguments say: text of php.ini, and the folders that have sections in it.
#include "php/ini_text.h"
#include "php/script_path.h"

#include <gtest/gtest.h>

namespace tqfpm::php {
namespace {

using namespace std::string_view_literals;

TEST(IniText, ValuesAreQuoted) {
  EXPECT_EQ(ini_value(""), "\"\"");
  EXPECT_EQ(ini_value("a b"), "'a b'");
  EXPECT_EQ(ini_value("it's"), "'it'\"'\"'s'");
  EXPECT_EQ(ini_value("''"), "\"''\"");
  EXPECT_EQ(ini_value("${HOME}\\\"\n;"), "'${HOME}\\\"\n;'");
}

TEST(IniText, ExpressionsAreLeftToPhp) {
  for (const char *text :
       {"1", "077", "128M", "ON", "NULL", "E_ALL", "E_ALL & ~E_NOTICE", "E_ALL|E_STRICT", "1 ^ 2 & 4"})
    EXPECT_EQ(ini_value(text), text);
}

// Each of these without quotes is a syntax error for PHP: what follows would be lost.
TEST(IniText, WhatOnlyLooksLikeAnExpressionIsNone) {
  for (const char *text : {"A |", "A &", "A & & B", "A & ~", "A & ~~B", "NULL & 1", "1 | ON", "NONE B", "A ^ NO", "1~"})
    EXPECT_EQ(ini_value(text), "'" + std::string(text) + "'");
  for (const char *text : {"A B", "A ", "A & B ", "~A", "_A", "e_all"})
    EXPECT_EQ(ini_value(text), "'" + std::string(text) + "'");
}

TEST(IniText, NamesOfSettings) {
  for (const char *name : {"memory_limit", "date.timezone", "x-y", "7", "on.x", "Nullx"})
    EXPECT_TRUE(is_setting_name(name)) << name;
  for (const char *name : {"", "on", "OFF", "Null", "none", "yes", "no", "true", "False", "a b", "a=b", "a\nb", "[PATH",
                           "a[b]", "a;b", "\xc3\xa4"})
    EXPECT_FALSE(is_setting_name(name)) << name;
}

TEST(IniText, ALineOrNone) {
  EXPECT_EQ(ini_line("a", "x\ny"), "a='x\ny'");
  EXPECT_EQ(ini_line("on", "1"), "");
  EXPECT_EQ(ini_line("a\n[PHP]\nextension", "1"), "");
  EXPECT_EQ(ini_line("a", "b\0c"sv), ""); // an argument would end there, within its quotes
}

TEST(Sections, ANameThatMeansMoreIsNone) {
  for (const char *name : {"srv", ".", "lib64", "a.b-c_d", "-"})
    EXPECT_TRUE(is_section_name(name)) << name;
  for (const char *name :
       {"", "x]\n[PHP]\nextension=y", "a]", "a\n", "a b", "lost+found", "a'b", "${a}", "a/b", "\xc3\xa4"})
    EXPECT_FALSE(is_section_name(name)) << name;
  EXPECT_FALSE(is_section_name(std::string(256, 'a')));
}

TEST(Sections, OfHostileFoldersNoneIsWritten) {
  const std::vector<std::string> folders = {".", "bin", "lost+found", "srv", "x]\n[PHP]\nextension=y"};
  EXPECT_EQ(section_folders(folders, 100), (std::vector<std::string>{"bin", "srv"}));
  // A script in one of them has the settings all the same.
  EXPECT_EQ(locked_script("/lost+found/a.php", folders), "/./lost+found/a.php");
  EXPECT_EQ(locked_script("/x]\n[PHP]\nextension=y/a.php", folders), "/./x]\n[PHP]\nextension=y/a.php");
  EXPECT_EQ(locked_script("/srv/a.php", folders), "/srv/a.php");
}

TEST(Sections, TheCommandStaysShort) {
  std::vector<std::string> folders;
  for (int i = 1000; i < 5000; ++i)
    folders.push_back(std::to_string(i));
  EXPECT_EQ(section_folders(folders, 100).size(), 32U);
  for (const std::size_t bytes : {0UL, 20'000UL, 100'000UL, 10'000'000UL}) {
    const auto chosen = section_folders(folders, bytes);
    EXPECT_LE(chosen.size() * bytes, 512UL * 1024) << bytes;
    EXPECT_EQ(locked_script("/4999/a.php", chosen), "/./4999/a.php");
  }
}

} // namespace
} // namespace tqfpm::php
