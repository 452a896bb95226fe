// Workers with different PHP settings: who gets which, and that nobody starves.
#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <random>

#include "pool/matching.h"

namespace tqfpm::pool {
namespace {

using Queue = std::list<RequestQueue::Entry>;
constexpr std::size_t kTemplateComing = SIZE_MAX;

Queue queue_of(std::initializer_list<VariantNumber> variants) {
  Queue queue;
  RequestKey key = 1;
  for (const VariantNumber variant : variants)
    queue.push_back({key++, variant, {}});
  return queue;
}

TEST(Matching, IdleWorkersOfTheRightVariantOldestRequestFirst) {
  const Match got = match(queue_of({0, 1, 0, 1}), {{1, 0}, {1, 0}}, 0, 0);
  EXPECT_EQ(got.assign, (std::vector<RequestKey>{1, 2}));
  EXPECT_TRUE(got.start.empty());
  EXPECT_TRUE(got.evict.empty()); // nobody is idle any more
}

TEST(Matching, RoomThenWhatEndsThenAnIdleOneOfOthers) {
  const Match got = match(queue_of({1, 1, 1, 1}), {{2, 0}}, 1, 1);
  EXPECT_EQ(got.start, (std::vector<VariantNumber>{1}));
  EXPECT_EQ(got.evict, (std::vector<VariantNumber>{0, 0})); // one takes the place of the one that ends
}

TEST(Matching, WhoComesUpIsCountedOnce) {
  const Match got = match(queue_of({1, 1, 1}), {{5, 0}, {0, 2}}, 0, 9);
  EXPECT_EQ(got.start, (std::vector<VariantNumber>{1})); // two are covered
  EXPECT_TRUE(got.evict.empty());
}

TEST(Matching, ATemplateThatComesUpIsWaitedFor) {
  const Match got = match(queue_of({1, 1, 1}), {{5, 0}, {0, kTemplateComing}}, 0, 9);
  EXPECT_TRUE(got.start.empty());
  EXPECT_TRUE(got.evict.empty());
}

TEST(Matching, AnOlderRequestIsNotOvertakenByTheLoadOfOthers) {
  // A worker of variant 0 has become idle, and there are more requests for it; the oldest request needs another one.
  const Match got = match(queue_of({1, 0, 0, 0}), {{1, 0}}, 0, 0);
  EXPECT_EQ(got.evict, (std::vector<VariantNumber>{0}));
  EXPECT_TRUE(got.assign.empty());
}

// A pool of four workers lives with three variants at random: every request is served in the end, bounds hold.
TEST(Matching, RandomLivesServeEverything) {
  constexpr std::size_t kMost = 4;
  for (unsigned seed = 1; seed <= 20; ++seed) {
    std::mt19937 random(seed);
    Queue queue;
    std::vector<VariantSupply> supply(3);
    std::vector<std::size_t> busy(3);
    std::size_t stopping = 0;
    RequestKey next = 1;
    RequestKey served = 0;
    std::map<RequestKey, int> waited;
    for (int step = 0; step < 5000; ++step) {
      if (step < 4000 && queue.size() < 50)
        queue.push_back({next++, static_cast<VariantNumber>(random() % 10 < 8 ? 0 : 1 + random() % 2), {}});
      for (auto &variant : supply) { // what has started is idle now, most often
        if (variant.coming > 0 && random() % 2 == 0) {
          --variant.coming;
          ++variant.idle;
        }
      }
      const std::size_t done = random() % 3;
      if (busy[done] > 0) {
        --busy[done];
        ++supply[done].idle;
      }
      if (stopping > 0 && random() % 2 == 0)
        --stopping;
      std::size_t alive = stopping;
      for (std::size_t i = 0; i < 3; ++i)
        alive += supply[i].idle + supply[i].coming + busy[i];
      ASSERT_LE(alive, kMost);
      const Match got = match(queue, supply, stopping, kMost - alive);
      ASSERT_LE(got.start.size(), kMost - alive);
      for (const RequestKey key : got.assign) {
        const auto entry =
            std::find_if(queue.begin(), queue.end(), [key](const auto &each) { return each.key == key; });
        ASSERT_GT(supply[entry->variant].idle, 0U);
        --supply[entry->variant].idle;
        ++busy[entry->variant];
        queue.erase(entry);
        ++served;
      }
      for (const VariantNumber variant : got.evict) {
        ASSERT_GT(supply[variant].idle, 0U);
        --supply[variant].idle;
        ++stopping;
      }
      for (const VariantNumber variant : got.start)
        ++supply[variant].coming;
      for (const auto &entry : queue)
        ASSERT_LT(++waited[entry.key], 500) << "starved, variant " << entry.variant;
    }
    EXPECT_TRUE(queue.empty());
    EXPECT_EQ(served, next - 1);
  }
}

} // namespace
} // namespace tqfpm::pool
