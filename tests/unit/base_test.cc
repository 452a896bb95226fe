#include <gtest/gtest.h>

#include "base/result.h"
#include "base/text.h"

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

TEST(Text, EditDistance) {
  EXPECT_EQ(edit_distance("", "abc"), 3U);
  EXPECT_EQ(edit_distance("listen", "listen"), 0U);
  EXPECT_EQ(edit_distance("listn", "listen"), 1U);
  EXPECT_EQ(edit_distance("kitten", "sitting"), 3U);
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
