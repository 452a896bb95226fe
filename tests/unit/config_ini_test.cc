// The INI reader: php-fpm's syntax through libinih, without libinih's limits.
#include <gtest/gtest.h>

#include "config/ini_source.h"
#include "growth.h"

namespace tqfpm::config {
namespace {

std::optional<std::string> environment(const std::string &name) {
  if (name == "HOME")
    return "/home/x";
  if (name == "SPECIAL")
    return "a;b\"c";
  return std::nullopt;
}

std::vector<IniItem> read(std::string_view text) {
  return read_ini(text, environment);
}

// The value of one line, which must be good.
std::string value(const std::string &written) {
  const auto items = read("key = " + written + "\n");
  EXPECT_EQ(items.size(), 1U) << written;
  EXPECT_EQ(items.at(0).kind, IniItem::Kind::kEntry) << items.at(0).error;
  return items.at(0).entry.value;
}

std::string error(const std::string &text) {
  for (const IniItem &item : read(text)) {
    if (item.kind == IniItem::Kind::kError)
      return std::to_string(item.line) + ": " + item.error;
  }
  return "";
}

TEST(IniSource, SectionsEntriesAndLineNumbers) {
  const auto items = read("; first\n\n[global]\npid = /run/x\n# note\n[empty]\n[www] ; the pool\n  listen=9000\n");
  ASSERT_EQ(items.size(), 5U);
  EXPECT_EQ(items[0].section, "global");
  EXPECT_EQ(items[0].line, 3);
  EXPECT_EQ(items[1].entry.key, "pid");
  EXPECT_EQ(items[1].entry.value, "/run/x");
  EXPECT_EQ(items[1].line, 4);
  EXPECT_EQ(items[2].section, "empty"); // libinih alone would hide it
  EXPECT_EQ(items[3].line, 7);
  EXPECT_EQ(items[3].section, "www");
  EXPECT_EQ(items[4].entry.key, "listen");
  EXPECT_EQ(items[4].line, 8);
}

TEST(IniSource, BareValues) {
  EXPECT_EQ(value("plain"), "plain");
  EXPECT_EQ(value("two words"), "two words");
  EXPECT_EQ(value("cut ; comment"), "cut");
  EXPECT_EQ(value("cut;comment"), "cut");
  EXPECT_EQ(value("a = b"), "a = b");
  EXPECT_EQ(value("x # no comment"), "x # no comment");
  EXPECT_EQ(value(""), "");
  EXPECT_EQ(value("E_ALL & ~E_NOTICE"), "E_ALL & ~E_NOTICE");
  EXPECT_EQ(value("\xc3\xa4\xff"), "\xc3\xa4\xff");
}

TEST(IniSource, QuotedValues) {
  EXPECT_EQ(value("\"a ; b\""), "a ; b");
  EXPECT_EQ(value("\"a\" ; comment"), "a");
  EXPECT_EQ(value("'a ; \\b \"c\"'"), "a ; \\b \"c\"");
  EXPECT_EQ(value(R"("q\"q b\\b d\$d n\n")"), "q\"q b\\b d$d n\\n");
  EXPECT_EQ(value("\"\""), "");
  EXPECT_EQ(value("\"%R - %u %t \\\"%m %r\\\" %s\""), "%R - %u %t \"%m %r\" %s");
}

TEST(IniSource, QuotedValuesOverLines) {
  const auto items = read("a = \"one\n  two ; not a comment\nthree\" ; comment\nb = 2\n");
  ASSERT_EQ(items.size(), 2U);
  EXPECT_EQ(items[0].entry.value, "one\n  two ; not a comment\nthree");
  EXPECT_EQ(items[0].line, 1);
  EXPECT_EQ(items[1].line, 4);
}

TEST(IniSource, EnvironmentOfTqfpm) {
  EXPECT_EQ(value("${HOME}/log"), "/home/x/log");
  EXPECT_EQ(value("\"${HOME}/log\""), "/home/x/log");
  EXPECT_EQ(value("'${HOME}/log'"), "${HOME}/log");
  EXPECT_EQ(value("\"\\${HOME}\""), "${HOME}");
  EXPECT_EQ(value("a${NOT_SET}b"), "ab");
  EXPECT_EQ(value("${SPECIAL}"), "a;b\"c"); // no second look at what came from outside
  EXPECT_EQ(value("$HOME"), "$HOME");
}

TEST(IniSource, Arrays) {
  const auto items = read("env[PATH] = /bin\naccess.suppress_path[] = /ping\nphp_value[a.b] = 1\nenv[ X ]=y\n");
  ASSERT_EQ(items.size(), 4U);
  EXPECT_EQ(items[0].entry.key, "env");
  EXPECT_EQ(items[0].entry.array_key, "PATH");
  EXPECT_EQ(items[1].entry.array_key, "");
  EXPECT_EQ(items[2].entry.array_key, "a.b");
  EXPECT_EQ(items[3].entry.array_key, "X");
}

TEST(IniSource, LinesOfAnyLength) {
  for (const std::size_t size : {150U, 199U, 200U, 201U, 4096U, 65536U, 300000U}) {
    std::string text(size, 'x');
    for (std::size_t i = 0; i < size; i += 7)
      text[i] = " ;\"#[]="[i / 7 % 7];
    text.front() = text.back() = 'e';
    EXPECT_EQ(value(quote(text)), text) << size;
    const std::string key(size, 'k');
    const auto items = read(key + "[" + key + "] = v\n");
    ASSERT_EQ(items.size(), 1U);
    EXPECT_EQ(items[0].entry.key, key);
    EXPECT_EQ(items[0].entry.array_key, key);
  }
}

TEST(IniSource, QuoteIsReadBack) {
  std::string all;
  for (int c = 1; c < 256; ++c)
    all += static_cast<char>(c);
  for (const std::string &text : {all, std::string("a\\"), std::string("\\\""), std::string("${HOME}"),
                                  std::string("'"), std::string("line\nline"), std::string(" blank ")})
    EXPECT_EQ(value(quote(text)), text);
}

TEST(IniSource, LineEndsOfOtherSystemsAndByteOrderMark) {
  const auto items = read("\xef\xbb\xbf[a]\r\nk = v\r\nlast = x");
  ASSERT_EQ(items.size(), 3U);
  EXPECT_EQ(items[0].section, "a");
  EXPECT_EQ(items[1].entry.value, "v");
  EXPECT_EQ(items[2].entry.value, "x");
}

TEST(IniSource, ErrorsNameTheLine) {
  EXPECT_EQ(error("a = 1\nwhat\n"), "2: 'what' is no directive: name = value is expected");
  EXPECT_EQ(error("= 1\n"), "1: '= 1' is no directive: name = value is expected");
  EXPECT_EQ(error("\n[open\n"), "2: '[open' is no section: [name] is expected");
  EXPECT_EQ(error("[a] b\n"), "1: '[a] b' is no section: [name] is expected");
  EXPECT_EQ(error("a = \"open\nb = 1\n"), "1: the value \"open has no closing quote");
  EXPECT_EQ(error("a = \"x\" y\n"), "1: 'y' after the closing quote");
  EXPECT_EQ(error("a = ${HOME\n"), "1: '${' without '}'");
}

TEST(IniSource, AfterAnErrorTheRestIsRead) {
  const auto items = read("a = \"open\nb = 1\nc\nd = 2\n");
  std::string seen;
  for (const IniItem &item : items)
    seen += item.kind == IniItem::Kind::kEntry ? item.entry.key : "!";
  EXPECT_EQ(seen, "!ab!d");
}

TEST(IniSource, TimeIsLinear) {
  const auto repeated = [](const std::string &head, const std::string &line, std::size_t bytes) {
    std::string text = head;
    while (text.size() < bytes)
      text += line;
    return text;
  };
  const std::pair<std::string, std::string> hostile[] = {
      {"a=\"", "b\n"},           // a quote that is never closed
      {"a='\nb=\"", "c=\\\"\n"}, // both
      {"", "a=\"x\"\n"},         // many that are
      {"[", "x"},                // a long section's name
      {"", "k"},                 // a long word
      {"k[", "["},               // and key
      {"a=", "${"},              // a variable that does not end
      {"a=", "${HOME}"},
      {"a=\"", "\\\""},
      {"", "\n"},
      {"", "\r"},
      {"", "=\n"},
  };
  for (const auto &[head, line] : hostile) {
    const std::string texts[2] = {repeated(head, line, 10000), repeated(head, line, 80000)};
    EXPECT_LT(growth([&](int large) { read(texts[large]); }), 24) << head.substr(0, 20) << line;
    const std::string key[2] = {texts[0] + "=1\n", texts[1] + "=1\n"};
    EXPECT_LT(growth([&](int large) { read(key[large]); }), 24) << head.substr(0, 20) << line << "=1";
  }
}

} // namespace
} // namespace tqfpm::config
