// The pure heart of a pool: worker table, process manager, queue, backoff. Time is a number here.
#include <gtest/gtest.h>

#include <random>

#include "pool/fault_window.h"
#include "pool/process_manager.h"
#include "pool/request_queue.h"
#include "pool/worker_table.h"

namespace tqfpm::pool {
namespace {

const TimePoint kStart{};

TEST(WorkerTable, IdleWorkersAreAStack) {
  WorkerTable table(4);
  std::vector<WorkerId> ids;
  for (int i = 0; i < 4; ++i) {
    ids.push_back(*table.start(kStart));
    table.set(ids.back(), WorkerState::kIdle, kStart + seconds(i));
  }
  EXPECT_FALSE(table.start(kStart).has_value());
  EXPECT_EQ(table.newest_idle(), ids[3]);
  EXPECT_EQ(table.oldest_idle(), ids[0]);
  table.set(ids[1], WorkerState::kBusy, kStart);
  table.set(ids[3], WorkerState::kBusy, kStart);
  EXPECT_EQ(table.newest_idle(), ids[2]);
  table.set(ids[1], WorkerState::kIdle, kStart + seconds(9));
  EXPECT_EQ(table.newest_idle(), ids[1]);
  table.remove(ids[0]);
  EXPECT_EQ(table.oldest_idle(), ids[2]);
  EXPECT_EQ(table.total(), 3U);
}

TEST(WorkerTable, AnIdNamesOneWorkerForEver) {
  WorkerTable table(1);
  const WorkerId first = *table.start(kStart);
  table.remove(first);
  const WorkerId second = *table.start(kStart);
  EXPECT_EQ(first.index, second.index);
  EXPECT_FALSE(table.valid(first));
  EXPECT_TRUE(table.valid(second));
  EXPECT_EQ(table.state(first), WorkerState::kFree);
  EXPECT_FALSE(table.valid(WorkerId{99, 1}));
}

TEST(RequestQueue, FirstInFirstOutWithABound) {
  RequestQueue queue(2, Duration::zero());
  EXPECT_TRUE(queue.push(1, 0, kStart));
  EXPECT_TRUE(queue.push(2, 0, kStart));
  EXPECT_FALSE(queue.push(3, 0, kStart));
  EXPECT_EQ(queue.longest(), 2U);
  EXPECT_EQ(queue.pop(), 1U);
  EXPECT_TRUE(queue.push(3, 0, kStart));
  EXPECT_TRUE(queue.remove(2));
  EXPECT_FALSE(queue.remove(2));
  EXPECT_EQ(queue.pop(), 3U);
  EXPECT_FALSE(queue.pop().has_value());
  EXPECT_EQ(queue.next_deadline(), TimePoint::max());
}

TEST(RequestQueue, WhatWaitedTooLongExpiresInOrder) {
  RequestQueue queue(10, seconds(2));
  (void)queue.push(1, 0, kStart);
  (void)queue.push(2, 0, kStart + seconds(1));
  EXPECT_EQ(queue.next_deadline(), kStart + seconds(2));
  EXPECT_FALSE(queue.pop_expired(kStart + milliseconds(1999)).has_value());
  EXPECT_EQ(queue.pop_expired(kStart + seconds(2)), 1U);
  EXPECT_FALSE(queue.pop_expired(kStart + seconds(2)).has_value());
  EXPECT_EQ(queue.next_deadline(), kStart + seconds(3));
}

TEST(RequestQueue, WhatComesBackKeepsItsPlace) {
  RequestQueue queue(2, seconds(2));
  (void)queue.push(1, 0, kStart);
  (void)queue.push(2, 0, kStart + seconds(1));
  EXPECT_EQ(queue.pop(), 1U);
  (void)queue.push(3, 0, kStart + milliseconds(1500));
  queue.put_back(1, 0, kStart); // also where the queue is full
  EXPECT_EQ(queue.longest(), 3U);
  EXPECT_EQ(queue.next_deadline(), kStart + seconds(2));
  EXPECT_EQ(queue.pop(), 1U);
  queue.put_back(4, 0, kStart + milliseconds(1200));
  EXPECT_TRUE(queue.remove(4));
  queue.put_back(5, 0, kStart + milliseconds(1200));
  EXPECT_EQ(queue.pop(), 2U);
  EXPECT_EQ(queue.pop(), 5U);
  EXPECT_EQ(queue.pop(), 3U);
}

TEST(FaultWindow, TooManyWithinTheInterval) {
  FaultWindow window(3, seconds(10));
  EXPECT_FALSE(window.add(kStart));
  EXPECT_FALSE(window.add(kStart + seconds(6)));
  EXPECT_FALSE(window.add(kStart + seconds(11))); // the first one is out of the window
  EXPECT_TRUE(window.add(kStart + seconds(16)));
  EXPECT_FALSE(window.add(kStart + seconds(16))); // counted anew
  FaultWindow never(0, seconds(10));
  FaultWindow unset(1, Duration::zero());
  EXPECT_FALSE(never.add(kStart));
  EXPECT_FALSE(unset.add(kStart));
  EXPECT_TRUE(FaultWindow(1, seconds(1)).add(kStart));
}

ManagerSettings settings(ManagerKind kind) {
  ManagerSettings s;
  s.kind = kind;
  s.max_children = 8;
  s.start_servers = 3;
  s.min_spare_servers = 2;
  s.max_spare_servers = 4;
  s.max_spawn_rate = 4;
  return s;
}

TEST(ProcessManager, StaticKeepsItsNumber) {
  ProcessManager manager(settings(ManagerKind::kStatic), kStart);
  EXPECT_EQ(manager.decide({}, kStart).start, 8U);
  EXPECT_EQ(manager.decide({.idle = 3, .busy = 2, .starting = 1, .stopping = 1}, kStart).start, 1U);
  EXPECT_EQ(manager.decide({.idle = 8, .oldest_idle_since = kStart}, kStart + seconds(3600)).stop, 0U);
}

TEST(ProcessManager, OnDemandStartsExactlyWhatTheQueueNeeds) {
  ProcessManager manager(settings(ManagerKind::kOnDemand), kStart);
  EXPECT_EQ(manager.decide({}, kStart).start, 0U);
  EXPECT_EQ(manager.decide({.queued = 3}, kStart).start, 3U);
  EXPECT_EQ(manager.decide({.starting = 3, .queued = 3}, kStart).start, 0U);
  EXPECT_EQ(manager.decide({.busy = 7, .queued = 5}, kStart).start, 1U);
}

TEST(ProcessManager, OnDemandEndsIdleWorkersInTime) {
  ProcessManager manager(settings(ManagerKind::kOnDemand), kStart);
  const PoolCounts idle{.idle = 2, .oldest_idle_since = kStart};
  const Decision early = manager.decide(idle, kStart + seconds(9));
  EXPECT_EQ(early.stop, 0U);
  EXPECT_EQ(early.look_again, kStart + seconds(10));
  const Decision due = manager.decide(idle, kStart + seconds(10));
  EXPECT_EQ(due.stop, 1U);
  EXPECT_EQ(due.stop_before, kStart); // not one that has been used since
}

TEST(ProcessManager, DynamicKeepsSparesAndShrinksSlowly) {
  ProcessManager manager(settings(ManagerKind::kDynamic), kStart);
  EXPECT_EQ(manager.decide({}, kStart).start, 3U);                                  // start_servers
  EXPECT_EQ(manager.decide({.idle = 1, .busy = 2}, kStart).start, 1U);              // up to min_spare
  EXPECT_EQ(manager.decide({.idle = 0, .busy = 3, .queued = 1}, kStart).start, 3U); // the queue's and the spares
  const PoolCounts many{.idle = 6, .oldest_idle_since = kStart};
  EXPECT_EQ(manager.decide(many, kStart + milliseconds(500)).stop, 0U); // a load that flaps does not flap workers
  EXPECT_EQ(manager.decide(many, kStart + seconds(2)).stop, 1U);
  EXPECT_EQ(manager.decide({.idle = 4, .oldest_idle_since = kStart}, kStart + seconds(3600)).stop, 0U);
}

// A load that is there for one second in every four.
TEST(ProcessManager, WavesOfLoadDoNotFlapWorkers) {
  ManagerSettings s = settings(ManagerKind::kDynamic);
  s.max_children = 20;
  s.max_spawn_rate = 100;
  ProcessManager manager(s, kStart);
  std::size_t alive = manager.decide({}, kStart).start;
  std::vector<std::size_t> ended(10);
  for (std::size_t wave = 0; wave < ended.size(); ++wave) {
    const TimePoint begin = kStart + seconds(4 * wave);
    alive += manager.decide({.busy = alive, .queued = 20 - std::min<std::size_t>(alive, 20)}, begin).start;
    for (int ms = 1000; ms < 4000; ms += 50) {
      const PoolCounts counts{.idle = alive, .oldest_idle_since = begin + seconds(1)};
      const Decision decision = manager.decide(counts, begin + milliseconds(ms));
      EXPECT_EQ(decision.start, 0U);
      ended[wave] += decision.stop;
      alive -= decision.stop;
    }
  }
  EXPECT_GT(ended[0], 5U);
  EXPECT_EQ(ended.back(), 0U); // it has learned
  // The load stays away: the surplus goes, and after some time the next one goes as quickly as at first.
  TimePoint now = kStart + seconds(40);
  const TimePoint idle_since = now;
  for (; alive > s.max_spare_servers && now < kStart + seconds(200); now += milliseconds(100))
    alive -= manager.decide({.idle = alive, .oldest_idle_since = idle_since}, now).stop;
  EXPECT_EQ(alive, s.max_spare_servers);
  for (int hour = 1; hour <= 8; ++hour) {
    const PoolCounts counts{.idle = 5, .oldest_idle_since = kStart + seconds(3600 * hour)};
    (void)manager.decide(counts, kStart + seconds(3600 * hour + 70));
  }
  EXPECT_EQ(manager.decide({.idle = 5, .oldest_idle_since = kStart + seconds(40000)}, kStart + seconds(40002)).stop,
            1U);
}

TEST(ProcessManager, ProcessMaxBoundsStartsAndIsSaidOncePerEpisode) {
  ProcessManager manager(settings(ManagerKind::kOnDemand), kStart);
  EXPECT_EQ(manager.decide({.queued = 5, .allowed = 2}, kStart).start, 2U);
  const Decision none = manager.decide({.busy = 2, .queued = 3, .allowed = 0}, kStart + seconds(60));
  EXPECT_EQ(none.start, 0U);
  EXPECT_TRUE(none.process_max_reached);
  EXPECT_FALSE(none.limit_reached);
  EXPECT_LE(none.look_again, kStart + seconds(61)); // nobody tells when another pool has made room
  EXPECT_FALSE(manager.decide({.busy = 2, .queued = 3, .allowed = 0}, kStart + seconds(61)).process_max_reached);
  EXPECT_EQ(manager.decide({.busy = 2, .queued = 3, .allowed = 9}, kStart + seconds(62)).start, 3U);
}

TEST(ProcessManager, SpawnRateIsARate) {
  ManagerSettings s = settings(ManagerKind::kDynamic);
  s.max_children = 100;
  ProcessManager manager(s, kStart);
  std::size_t alive = manager.decide({}, kStart).start;
  std::size_t started = 0;
  for (int ms = 0; ms <= 3000; ms += 10) {
    const std::size_t now = manager.decide({.busy = alive, .queued = 50}, kStart + milliseconds(ms)).start;
    alive += now;
    started += now;
  }
  EXPECT_GE(started, 4U + 3 * 4 - 1);
  EXPECT_LE(started, 4U + 3 * 4);
}

TEST(ProcessManager, LimitIsSaidOncePerEpisode) {
  ProcessManager manager(settings(ManagerKind::kOnDemand), kStart);
  const PoolCounts full{.busy = 8, .queued = 1};
  EXPECT_TRUE(manager.decide(full, kStart).limit_reached);
  EXPECT_FALSE(manager.decide(full, kStart).limit_reached);
  EXPECT_FALSE(manager.decide({.idle = 8}, kStart).limit_reached);
  EXPECT_FALSE(manager.decide(full, kStart + seconds(9)).limit_reached);
  EXPECT_FALSE(manager.decide(full, kStart + seconds(18)).limit_reached); // never away for ten seconds
  EXPECT_TRUE(manager.decide(full, kStart + seconds(28)).limit_reached);
}

TEST(ProcessManager, FailuresPauseStartsWithGrowingDelay) {
  ProcessManager manager(settings(ManagerKind::kOnDemand), kStart);
  TimePoint now = kStart;
  Duration before = Duration::zero();
  for (int i = 0; i < 12; ++i) {
    manager.start_failed(now);
    EXPECT_EQ(manager.decide({.queued = 1}, now).start, 0U);
    EXPECT_EQ(manager.decide({.queued = 1}, now).look_again, manager.paused_until());
    EXPECT_GE(manager.paused_until() - now, before);
    before = manager.paused_until() - now;
    EXPECT_LE(before, seconds(30));
    now = manager.paused_until();
    EXPECT_EQ(manager.decide({.queued = 1}, now).start, 1U);
  }
  manager.start_succeeded();
  EXPECT_EQ(manager.decide({.queued = 1}, now).start, 1U);
}

// A pool that lives at random: bounds hold, counts sum, and what waits is served in the end.
void live(ManagerKind kind, unsigned seed) {
  std::mt19937 random(seed);
  const ManagerSettings s = settings(kind);
  ProcessManager manager(s, kStart);
  WorkerTable table(s.max_children * 2);
  TimePoint now = kStart;
  std::size_t queued = 0;
  std::size_t allowed = SIZE_MAX;
  const auto any = [&](WorkerState state) -> std::optional<WorkerId> {
    for (std::size_t i = 0; i < table.slots(); ++i) {
      if (const auto id = table.at(i); id && table.state(*id) == state)
        return id;
    }
    return std::nullopt;
  };
  const auto decide = [&] {
    PoolCounts counts{table.count(WorkerState::kIdle),
                      0,
                      table.count(WorkerState::kBusy),
                      table.count(WorkerState::kStarting),
                      table.count(WorkerState::kStopping),
                      queued,
                      {},
                      allowed};
    if (const auto oldest = table.oldest_idle())
      counts.oldest_idle_since = table.since(*oldest);
    const Decision decision = manager.decide(counts, now);
    ASSERT_LE(decision.stop, counts.idle);
    ASSERT_LE(decision.start, allowed);
    for (std::size_t i = 0; i < decision.start; ++i)
      ASSERT_TRUE(table.start(now).has_value());
    for (std::size_t i = 0; i < decision.stop; ++i)
      table.set(*table.oldest_idle(), WorkerState::kStopping, now);
  };
  const auto serve = [&] {
    while (queued > 0 && table.newest_idle()) {
      table.set(*table.newest_idle(), WorkerState::kBusy, now);
      --queued;
    }
  };
  for (int step = 0; step < 170000; ++step) {
    now += milliseconds(random() % 200);
    if (random() % 50 == 0)
      allowed = random() % 2 == 0 ? SIZE_MAX : random() % 3;
    switch (random() % 6) {
    case 0:
      queued += random() % 3;
      break;
    case 1:
      if (const auto id = any(WorkerState::kStarting)) {
        table.set(*id, WorkerState::kIdle, now);
        manager.start_succeeded();
      }
      break;
    case 2:
    case 3:
      if (const auto id = any(WorkerState::kBusy))
        table.set(*id, WorkerState::kIdle, now);
      break;
    case 4:
      if (const auto id = any(WorkerState::kStopping))
        table.remove(*id);
      break;
    case 5: // one dies
      if (const auto id = table.at(random() % table.slots())) {
        if (table.state(*id) == WorkerState::kStarting)
          manager.start_failed(now);
        table.remove(*id);
      }
      break;
    }
    serve();
    decide();
    ASSERT_LE(table.total(), s.max_children);
    std::size_t sum = 0;
    for (std::size_t i = 0; i < kWorkerStates; ++i)
      sum += table.count(static_cast<WorkerState>(i));
    ASSERT_EQ(sum, table.slots());
  }
  allowed = SIZE_MAX;
  for (int turn = 0; queued > 0 && turn < 100000; ++turn) {
    now += seconds(1);
    while (const auto id = any(WorkerState::kStarting))
      table.set(*id, WorkerState::kIdle, now);
    while (const auto id = any(WorkerState::kBusy))
      table.set(*id, WorkerState::kIdle, now);
    while (const auto id = any(WorkerState::kStopping))
      table.remove(*id);
    serve();
    decide();
  }
  EXPECT_EQ(queued, 0U);
}

TEST(ProcessManager, RandomLivesKeepTheBounds) {
  for (const ManagerKind kind : {ManagerKind::kStatic, ManagerKind::kDynamic, ManagerKind::kOnDemand}) {
    for (unsigned seed = 1; seed <= 3; ++seed) // in all more than a million events
      live(kind, seed);
  }
}

} // namespace
} // namespace tqfpm::pool
