#include <gtest/gtest.h>

#include <csignal>

#include "base/backoff.h"
#include "base/line_splitter.h"
#include "base/networks.h"
#include "base/request_id.h"
#include "base/result.h"
#include "base/text.h"
#include "base/wait_status.h"

namespace tqfpm {
namespace {

TEST(Text, TrimSplitJoin) {
  EXPECT_EQ(trim(" \t a b \r\n"), "a b");
  EXPECT_EQ(trim("   "), "");
  EXPECT_EQ(split("a,,b, c", ", "), (std::vector<std::string>{"a", "b", "c"}));
  EXPECT_EQ(join({"a", "b"}, "; "), "a; b");
  EXPECT_EQ(replace_all("$a$a", "$a", "$a$a"), "$a$a$a$a");
  EXPECT_EQ(lower("AbÄ"), "abÄ");
}

TEST(Text, NumbersAreWholeOrNothing) {
  EXPECT_EQ(to_number("42"), 42);
  EXPECT_EQ(to_number("-7"), -7);
  EXPECT_EQ(to_number("0660", 8), 0660);
  for (const char *text : {"", " 1", "1 ", "1x", "x", "9223372036854775808", "1.0", "--1"})
    EXPECT_FALSE(to_number(text).has_value()) << text;
}

TEST(Text, ControlCharactersAreShown) {
  std::string line = "a";
  append_safe(line, std::string("b\n\t\0\x7f\xc3\xa4\"", 8));
  EXPECT_EQ(line, "ab\\x0a\t\\x00\\x7f\xc3\xa4\"");
  append_safe(line, "\"\t", "\"\t");
  EXPECT_EQ(line, "ab\\x0a\t\\x00\\x7f\xc3\xa4\"\\x22\\x09");
  EXPECT_EQ(safe("\x1b[0m"), "\\x1b[0m");
}

TEST(WaitStatus, PhpFpmsWords) {
  EXPECT_EQ(end_text(3 << 8), "exited with code 3");
  EXPECT_EQ(end_text(SIGSEGV), "exited on signal 11 (SIGSEGV)");
  EXPECT_EQ(end_text(SIGABRT | 0x80), "exited on signal 6 (SIGABRT - core dumped)");
  EXPECT_TRUE(ended_well(0));
  EXPECT_FALSE(ended_well(1 << 8));
  EXPECT_FALSE(ended_well(SIGKILL));
  EXPECT_FALSE(ended_well(-1)); // what has not been waited for
}

TEST(Backoff, GrowsIsBoundedAndForgets) {
  const TimePoint start{};
  Backoff backoff(milliseconds(100), seconds(1), seconds(10));
  EXPECT_EQ(backoff.failed(start, start), milliseconds(100));
  EXPECT_EQ(backoff.failed(start, start), milliseconds(200));
  for (int i = 0; i < 10; ++i)
    (void)backoff.failed(start, start);
  EXPECT_EQ(backoff.failed(start, start), seconds(1));
  EXPECT_EQ(backoff.failed(start, start + seconds(10)), milliseconds(100));
  EXPECT_EQ(backoff.failed(), milliseconds(200));
  backoff.succeeded();
  EXPECT_EQ(backoff.failed(), milliseconds(100));
}

TEST(RequestId, LettersThatAreSafeEverywhere) {
  const std::string longest(128, 'a');
  for (const std::string &good : {std::string("0af3-B.x_9"), std::string("-"), longest})
    EXPECT_EQ(request_id(good), good);
  for (const std::string &bad :
       {std::string(), longest + "a", std::string("a b"), std::string("<b>"), std::string("a\n"), std::string("\0", 1),
        std::string("\xc3\xa4"), std::string("a&b"), std::string("a\"")})
    EXPECT_EQ(request_id(bad), std::nullopt) << bad;
}

TEST(Networks, WhatIsInThem) {
  const auto in = [](const char *network, const char *address) {
    const auto parsed = parse_network(network);
    const auto who = parse_ip(address);
    return parsed && who && parsed->contains(*who);
  };
  EXPECT_TRUE(in("127.0.0.1", "127.0.0.1"));
  EXPECT_FALSE(in("127.0.0.1", "127.0.0.2"));
  EXPECT_TRUE(in("127.0.0.1", "::ffff:127.0.0.1"));
  EXPECT_TRUE(in("10.0.0.0/8", "10.255.1.2"));
  EXPECT_FALSE(in("10.0.0.0/8", "11.0.0.0"));
  EXPECT_TRUE(in("192.168.7.130/25", "192.168.7.255")); // bits behind the prefix do not matter
  EXPECT_FALSE(in("192.168.7.130/25", "192.168.7.127"));
  EXPECT_TRUE(in("0.0.0.0/0", "8.8.8.8"));
  EXPECT_FALSE(in("0.0.0.0/0", "2001:db8::1"));
  EXPECT_TRUE(in("::/0", "8.8.8.8"));
  EXPECT_TRUE(in("fd00::/8", "fdab::1"));
  EXPECT_FALSE(in("fd00::/8", "fe00::1"));
  EXPECT_TRUE(in("::1", "0:0::1"));
  EXPECT_FALSE(in("::1", "127.0.0.1"));
  EXPECT_TRUE(in("2001:db8::/33", "2001:db8:7fff::"));
  EXPECT_FALSE(in("2001:db8::/33", "2001:db8:8000::"));
  for (const char *text : {"", "xxx", "127.0.0", "1.2.3.4/33", "1.2.3.4/", "1.2.3.4/-1", "1.2.3.4/8x", "::1/129",
                           "localhost", "1.2.3.4 ", "[::1]"})
    EXPECT_FALSE(parse_network(text).has_value()) << text;
  for (const char *text : {"localhost", "127.0.0.1", "127.8.9.1", "::1", "::ffff:127.0.0.1"})
    EXPECT_TRUE(is_loopback(text)) << text;
  for (const char *text : {"", "0.0.0.0", "::", "10.0.0.1", "example.org"})
    EXPECT_FALSE(is_loopback(text)) << text;
}

TEST(Text, EditDistance) {
  EXPECT_EQ(edit_distance("", "abc"), 3U);
  EXPECT_EQ(edit_distance("listen", "listen"), 0U);
  EXPECT_EQ(edit_distance("listn", "listen"), 1U);
  EXPECT_EQ(edit_distance("kitten", "sitting"), 3U);
}

using namespace std::string_literals;

// The lines of `pieces` that come one after the other, then a flush.
std::vector<std::string> lines(const std::vector<std::string> &pieces, std::size_t room) {
  LineSplitter splitter;
  std::vector<std::string> out;
  const auto keep = [&out](const std::string &line) { out.push_back(line); };
  for (const std::string &piece : pieces)
    splitter.feed(piece, room, keep);
  splitter.flush(room, keep);
  return out;
}

using Lines = std::vector<std::string>;

TEST(LineSplitter, NewlinesAndRoom) {
  EXPECT_EQ(lines({"a\nb", "c\n\nd"}, 10), (Lines{"a", "bc", "", "d"}));
  EXPECT_EQ(lines({"12345"}, 5), (Lines{"12345"}));
  EXPECT_EQ(lines({"12345\n"}, 5), (Lines{"12345"}));
  EXPECT_EQ(lines({"1234567890123\nx\n"}, 5), (Lines{"12345", "67890", "123", "x"}));
  EXPECT_EQ(lines({""}, 5), Lines{});
}

TEST(LineSplitter, FlushMarkEndsAMessage) {
  const std::string mark = "\0fscf\0"s;
  EXPECT_EQ(lines({"one" + mark + "two\n" + mark}, 10), (Lines{"one", "two"}));
  EXPECT_EQ(lines({"12345" + mark + "x"}, 5), (Lines{"12345", "x"}));
  EXPECT_EQ(lines({"123\0fabc"s}, 5), (Lines{"123\0f"s, "abc"}));
  for (std::size_t cut = 1; cut < mark.size(); ++cut) {
    EXPECT_EQ(lines({"1234" + mark.substr(0, cut), mark.substr(cut) + "x"}, 5), (Lines{"1234", "x"})) << cut;
    EXPECT_EQ(lines({"12345" + mark.substr(0, cut), mark.substr(cut) + "x"}, 5), (Lines{"12345", "x"})) << cut;
  }
}

TEST(LineSplitter, AnyPiecesGiveTheSame) {
  const std::string text = "hello\0fscf\0world\n\0fsc and\0fscf\0\n more than there is room for\n"s;
  const Lines whole = lines({text}, 12);
  for (std::size_t size = 1; size < text.size(); ++size) {
    Lines pieces;
    for (std::size_t at = 0; at < text.size(); at += size)
      pieces.push_back(text.substr(at, size));
    EXPECT_EQ(lines(pieces, 12), whole) << size;
  }
}

TEST(LineSplitter, AMegabyteStaysOneLine) {
  const std::string large(1 << 20, 'x');
  Lines pieces(64, std::string(16384, 'x'));
  pieces.emplace_back("\n");
  EXPECT_EQ(lines(pieces, 2 << 20), Lines{large});
}

TEST(Result, ValueOrError) {
  const Result<int> good = 3;
  const Result<int> bad = Error{"why", 2};
  EXPECT_TRUE(good.ok());
  EXPECT_EQ(good.value(), 3);
  EXPECT_EQ(bad.error().message, "why");
  EXPECT_DEATH((void)bad.value(), "impossible: ok\\(\\)");
}

} // namespace
} // namespace tqfpm
