#include <gtest/gtest.h>

#include "base/line_splitter.h"
#include "pool/deadlines.h"
#include "pool/token_bucket.h"

namespace tqfpm::pool {
namespace {

const TimePoint kStart = TimePoint{} + std::chrono::hours(1);

struct Watched {
  Watched() {
    limits.terminate = seconds(3);
    limits.grace = seconds(2);
    worker.since = kStart;
    worker.has_process = true;
  }
  Deadline at(Duration time) const { return deadline(worker, limits, kStart + time); }
  Deadlines limits;
  WorkerClock worker;
};

TEST(Deadlines, AnIdleWorkerHasNone) {
  Watched one;
  one.worker.state = WorkerState::kIdle;
  EXPECT_EQ(one.at(std::chrono::hours(100)).action, DeadlineAction::kNone);
  EXPECT_EQ(one.at(std::chrono::hours(100)).next, TimePoint::max());
}

TEST(Deadlines, ARequestIsTerminatedAndThenKilled) {
  for (const WorkerState state : {WorkerState::kBusy, WorkerState::kAbandoned, WorkerState::kFinishing,
                                  WorkerState::kProbed, WorkerState::kCutOff}) {
    Watched one;
    one.worker.state = state;
    one.worker.work_since = kStart;
    EXPECT_EQ(one.at(milliseconds(2999)).action, DeadlineAction::kNone);
    EXPECT_EQ(one.at(milliseconds(2999)).next, kStart + seconds(3));
    EXPECT_EQ(one.at(seconds(3)).action, DeadlineAction::kTerminate);
    EXPECT_EQ(one.at(seconds(3)).next, kStart + seconds(5));
    one.worker.terminated = kStart + seconds(3);
    EXPECT_EQ(one.at(milliseconds(4999)).action, DeadlineAction::kNone);
    EXPECT_EQ(one.at(seconds(5)).action, DeadlineAction::kKill);
  }
}

TEST(Deadlines, ARequestMayTakeForEverWithoutALimit) {
  Watched one;
  one.limits.terminate = Duration::zero();
  one.worker.state = WorkerState::kBusy;
  one.worker.work_since = kStart;
  EXPECT_EQ(one.at(std::chrono::hours(100)).action, DeadlineAction::kNone);
}

TEST(Deadlines, AFinishedScriptThatIsNotTrackedHasNone) {
  Watched one;
  one.worker.state = WorkerState::kFinishing;
  EXPECT_EQ(one.at(std::chrono::hours(100)).action, DeadlineAction::kNone);
}

TEST(Deadlines, AWorkerHasToComeBack) {
  for (const WorkerState state : {WorkerState::kReturning, WorkerState::kProbed, WorkerState::kCutOff}) {
    Watched one;
    one.worker.state = state;
    EXPECT_EQ(one.at(milliseconds(9999)).action, DeadlineAction::kNone);
    EXPECT_EQ(one.at(seconds(10)).action, DeadlineAction::kTerminate);
    one.worker.terminated = kStart + seconds(10);
    EXPECT_EQ(one.at(seconds(12)).action, DeadlineAction::kKill);
  }
}

TEST(Deadlines, AWorkerHasToStart) {
  Watched one;
  one.worker.state = WorkerState::kStarting;
  EXPECT_EQ(one.at(milliseconds(29999)).action, DeadlineAction::kNone);
  EXPECT_EQ(one.at(seconds(30)).action, DeadlineAction::kKill);
  one.worker.has_process = false;
  one.limits.first_sign = seconds(10);
  EXPECT_EQ(one.at(milliseconds(9999)).action, DeadlineAction::kNone);
  EXPECT_EQ(one.at(seconds(10)).action, DeadlineAction::kGiveUp);
}

TEST(Deadlines, AWorkerHasToEnd) {
  Watched one;
  one.worker.state = WorkerState::kStopping;
  EXPECT_EQ(one.at(milliseconds(9999)).action, DeadlineAction::kNone);
  EXPECT_EQ(one.at(seconds(10)).action, DeadlineAction::kKill);
  one.worker.killed = kStart + seconds(10); // and is killed again and again
  EXPECT_EQ(one.at(seconds(19)).action, DeadlineAction::kNone);
  EXPECT_EQ(one.at(seconds(20)).action, DeadlineAction::kKill);
}

TEST(Deadlines, ALostConnectionIsExplainedSoonOrNever) {
  Watched one;
  one.worker.state = WorkerState::kCutOff;
  one.worker.work_since = kStart;
  one.worker.waits = true;
  EXPECT_EQ(one.at(milliseconds(199)).next, kStart + milliseconds(200));
  EXPECT_EQ(one.at(milliseconds(200)).action, DeadlineAction::kLose);
  one.worker.waits = false;
  EXPECT_EQ(one.at(milliseconds(200)).action, DeadlineAction::kNone);
  one.limits.probes = true;
  EXPECT_EQ(one.at(milliseconds(200)).action, DeadlineAction::kProbe);
  EXPECT_EQ(one.at(seconds(3)).action, DeadlineAction::kTerminate); // that goes first
}

TEST(WorkerStates, FollowTheTable) {
  using enum WorkerState;
  EXPECT_TRUE(may_become(kStarting, kIdle));
  EXPECT_FALSE(may_become(kStarting, kBusy));
  EXPECT_TRUE(may_become(kIdle, kBusy));
  EXPECT_FALSE(may_become(kReturning, kBusy));
  EXPECT_FALSE(may_become(kStopping, kIdle));
  EXPECT_TRUE(may_become(kStopping, kStopping));
  EXPECT_FALSE(may_become(kFree, kStarting)); // start() alone
  EXPECT_TRUE(is_occupied(kCutOff) && is_occupied(kBusy) && is_occupied(kProbed));
  EXPECT_FALSE(is_occupied(kIdle) || is_occupied(kStopping) || is_occupied(kStarting) || is_occupied(kFree));
}

TEST(WorkerStatesDeathTest, AWrongOneIsImpossible) {
  WorkerTable table(1);
  const auto id = table.start(kStart);
  EXPECT_DEATH(table.set(*id, WorkerState::kBusy, kStart), "may_become");
}

TEST(WorkerStates, AreCounted) {
  WorkerTable table(2);
  const auto one = table.start(kStart);
  const auto two = table.start(kStart, 3);
  for (const auto &each : {one, two}) {
    table.set(*each, WorkerState::kIdle, kStart);
    table.set(*each, WorkerState::kBusy, kStart);
  }
  table.set(*two, WorkerState::kAbandoned, kStart);
  EXPECT_EQ(table.occupied(), 2U);
  EXPECT_EQ(table.occupied(3), 1U);
  EXPECT_EQ(table.occupied(4), 0U);
}

TEST(TokenBucket, LimitsARate) {
  TokenBucket bucket(10, 20);
  TimePoint now = kStart;
  bucket.refill(now);
  for (int i = 0; i < 20; ++i) {
    ASSERT_TRUE(bucket.has(1));
    bucket.take(1);
  }
  EXPECT_FALSE(bucket.has(1));
  now += milliseconds(500);
  bucket.refill(now);
  EXPECT_TRUE(bucket.has(5));
  EXPECT_FALSE(bucket.has(6));
  bucket.refill(now + seconds(100)); // and never more than the burst
  bucket.take(20);
  EXPECT_FALSE(bucket.has(1));
}

TEST(TokenBucket, LetsWhatIsLargerThanItPassWhenItIsFull) {
  TokenBucket bucket(10, 20);
  EXPECT_TRUE(bucket.has(1000));
  bucket.take(1000);
  EXPECT_FALSE(bucket.has(1));
}

} // namespace
} // namespace tqfpm::pool
