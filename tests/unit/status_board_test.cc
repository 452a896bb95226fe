// The count of all pools' workers.
#include <gtest/gtest.h>

#include <memory>

#include "pool/recycling.h"
#include "status/process_board.h"

namespace tqfpm {
namespace {

TEST(ProcessBoard, IsABoundForAllHoldersTogether) {
  auto board = std::make_unique<status::ProcessBoard>();
  const std::size_t a = board->claim(100);
  const std::size_t b = board->claim(100 + status::ProcessBoard::kHolders); // the same cell at first
  EXPECT_NE(a, b);
  EXPECT_TRUE(board->take(a, 3));
  EXPECT_TRUE(board->take(b, 3));
  EXPECT_EQ(board->room(3), 1U);
  EXPECT_TRUE(board->take(b, 3));
  EXPECT_FALSE(board->take(a, 3));
  EXPECT_EQ(board->room(3), 0U);
  EXPECT_EQ(board->room(2), 0U); // after a reload with a smaller limit
  EXPECT_EQ(board->room(0), SIZE_MAX);
  board->give(a);
  EXPECT_TRUE(board->take(b, 3));
  board->forget(100 + status::ProcessBoard::kHolders);
  EXPECT_EQ(board->room(3), 3U);
  EXPECT_EQ(board->claim(100 + status::ProcessBoard::kHolders), b);
}

TEST(Recycling, LimitsAreSpreadAndNeverHigher) {
  pool::Recycling recycling(500, 8, 1);
  std::uint64_t least = 500;
  std::uint64_t most = 0;
  for (int i = 0; i < 1000; ++i) {
    const std::uint64_t limit = recycling.limit();
    least = std::min(least, limit);
    most = std::max(most, limit);
  }
  EXPECT_EQ(most, 500U);
  EXPECT_GE(least, 375U);
  EXPECT_LE(least, 380U);
  EXPECT_EQ(pool::Recycling(3, 8, 1).limit(), 3U);
  EXPECT_EQ(pool::Recycling(0, 8, 1).limit(), 0U);
}

TEST(Recycling, AtMostAQuarterOfThePoolAtTheSameTime) {
  const pool::Recycling recycling(500, 8, 1);
  EXPECT_FALSE(recycling.due(469, 470, 0));
  EXPECT_TRUE(recycling.due(470, 470, 1));
  EXPECT_FALSE(recycling.due(470, 470, 2));
  EXPECT_TRUE(recycling.due(500, 470, 2)); // never beyond pm.max_requests
  EXPECT_TRUE(pool::Recycling(500, 1, 1).due(470, 470, 0));
  EXPECT_FALSE(pool::Recycling(0, 8, 1).due(1000000, 0, 0));
}

} // namespace
} // namespace tqfpm
