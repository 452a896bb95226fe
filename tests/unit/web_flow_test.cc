#include "web/flow.h"

#include <gtest/gtest.h>

namespace tqfpm::web {
namespace {

constexpr FlowLimits kLimits{.request_buffer = 100, .response_buffer = 200};

Load open_load() {
  return {};
}

TEST(Flow, AnOpenConnectionIsReadAndParsed) {
  EXPECT_TRUE(may_read(open_load(), kLimits));
  EXPECT_TRUE(may_parse(open_load(), kLimits));
  EXPECT_EQ(wait_for_peer(open_load(), kLimits).what, Late::kNothing); // it may be idle as long as it likes
}

TEST(Flow, WhatHoldsAConnectionBack) {
  Load load = open_load();
  load.unsent = 200;
  EXPECT_FALSE(may_parse(load, kLimits));
  EXPECT_FALSE(may_read(load, kLimits));
  load = open_load();
  load.largest_body = 100;
  EXPECT_FALSE(may_parse(load, kLimits));
  EXPECT_FALSE(may_read(load, kLimits));
  load.largest_body = 99;
  EXPECT_TRUE(may_read(load, kLimits));
  load = open_load();
  load.waits_for_id = true;
  EXPECT_FALSE(may_parse(load, kLimits));
  EXPECT_FALSE(may_read(load, kLimits));
}

TEST(Flow, ShortMemoryLetsOnlyThoseSendWhoMakeRoom) {
  Load load = open_load();
  load.pressure = Pressure::kHigh;
  EXPECT_TRUE(may_read(load, kLimits)); // a ping, say
  load.in_body = true;
  EXPECT_FALSE(may_read(load, kLimits));
  EXPECT_TRUE(may_parse(load, kLimits)); // what has been read is there anyway
  load.feeds_worker = true;
  EXPECT_TRUE(may_read(load, kLimits));
  load = open_load();
  load.pressure = Pressure::kFull;
  EXPECT_TRUE(may_read(load, kLimits)); // a ping, still
  load.held = kLittle + 1;
  load.in_head = true;
  EXPECT_FALSE(may_read(load, kLimits));
  EXPECT_EQ(wait_for_peer(load, kLimits).what, Late::kHead); // it does not hold its memory for ever
}

TEST(Flow, ARequestThatWaitsDoesNotStarveOneThatRuns) {
  Load load = open_load();
  load.largest_body = 100;
  load.starves = true;
  load.held = 399;
  EXPECT_TRUE(may_parse(load, kLimits));
  load.held = 400;
  EXPECT_FALSE(may_parse(load, kLimits));
}

TEST(Flow, EachStateReadsAndParsesAsItIsMeantTo) {
  const struct {
    ClientState state;
    bool read, parse;
  } rows[] = {
      {ClientState::kOpen, true, true},      {ClientState::kHalfClosed, false, true},
      {ClientState::kClosing, false, false}, {ClientState::kLingering, true, false},
      {ClientState::kClosed, false, false},
  };
  for (const auto &row : rows) {
    Load load = open_load();
    load.state = row.state;
    EXPECT_EQ(may_read(load, kLimits), row.read) << int(row.state);
    EXPECT_EQ(may_parse(load, kLimits), row.parse) << int(row.state);
  }
}

TEST(Flow, ThePeerIsAwaitedOnlyWhereItIsItsTurn) {
  FlowLimits limits = kLimits;
  limits.head = seconds(1);
  limits.body = seconds(2);
  limits.send = seconds(3);
  Load load = open_load();
  load.in_head = true;
  EXPECT_EQ(wait_for_peer(load, limits).what, Late::kHead);
  EXPECT_EQ(wait_for_peer(load, limits).patience, seconds(1));
  load.in_head = false;
  load.in_body = true;
  EXPECT_EQ(wait_for_peer(load, limits).what, Late::kBody);
  load.largest_body = 100; // a worker has to take it first
  EXPECT_EQ(wait_for_peer(load, limits).what, Late::kNothing);
  load.unsent = 1;
  EXPECT_EQ(wait_for_peer(load, limits).what, Late::kSend);
  limits.send = Duration::zero(); // no limit
  EXPECT_EQ(wait_for_peer(load, limits).what, Late::kNothing);
  load.state = ClientState::kLingering;
  EXPECT_EQ(wait_for_peer(load, limits).what, Late::kLinger);
}

} // namespace
} // namespace tqfpm::web
