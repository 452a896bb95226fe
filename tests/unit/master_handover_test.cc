// What one image of the master leaves for the next.
#include "master/handover_state.h"

#include <gtest/gtest.h>

namespace tqfpm::master {
namespace {

using Kind = StateEntry::Kind;

TEST(HandoverState, ComesBackAsItWas) {
  const std::vector<StateEntry> entries = {
      {Kind::kConfig, 7, "-"},   {Kind::kSocket, 9, "/run/a b\twith\nall\\n"}, {Kind::kGiven, 10, "127.0.0.1:9000"},
      {Kind::kBoard, 11, "www"}, {Kind::kGeneration, 12, "www", 99, 3, 2},     {Kind::kGeneration, 13, "", 2, 0, 0},
  };
  EXPECT_EQ(parse_state(state_text(entries)), entries);
}

TEST(HandoverState, TheImageBeforeMayBeOlder) {
  const auto entries =
      parse_state("tqfpm-state\t1\nprocesses\t8\t-\nsocket\t9\t/run/a\ngeneration\t12\t99\t3\t1\twww\n");
  ASSERT_EQ(entries.size(), 3U);
  EXPECT_EQ(entries[1], (StateEntry{Kind::kSocket, 9, "/run/a"}));
  EXPECT_EQ(entries[2], (StateEntry{Kind::kGeneration, 12, "www", 99, 3, 1}));
}

TEST(HandoverState, NoLineCanBeWrittenByAnAddress) {
  const std::vector<StateEntry> entries = {{Kind::kSocket, 9, "/run/a\nboard\t5\twww"}};
  EXPECT_EQ(parse_state(state_text(entries)).size(), 1U);
}

TEST(HandoverState, EachDescriptorOnce) {
  const auto entries = parse_state("socket\t9\ta\nboard\t9\tb\nboard\t2\tc\nboard\t-1\td\nboard\tx\te\nboard\t\n");
  ASSERT_EQ(entries.size(), 1U);
  EXPECT_EQ(entries[0].text, "a");
}

// kill(-1) and kill(0) would reach everybody.
TEST(HandoverState, AGenerationIsOneProcess) {
  for (const char *rest : {"-1\t3\t1\twww", "0\t3\t1\twww", "1\t3\t1\twww", "99\t3\t3\twww", "99\t3\t-1\twww",
                           "99\t-3\t1\twww", "99\t3", "", "99999999999999999999\t3\t1\twww"}) {
    const auto entries = parse_state("generation\t12\t" + std::string(rest) + "\n");
    ASSERT_EQ(entries.size(), 1U) << rest;
    EXPECT_EQ(entries[0].kind, Kind::kUnknown) << rest; // its descriptor is closed
  }
}

TEST(HandoverState, WhatIsNewIsUnknown) {
  const auto entries = parse_state("later\t14\twhatever\n");
  ASSERT_EQ(entries.size(), 1U);
  EXPECT_EQ(entries[0], (StateEntry{Kind::kUnknown, 14, ""}));
}

} // namespace
} // namespace tqfpm::master
