#include <gtest/gtest.h>

#include <cstddef>

#include "fake_workers.h"
#include "workers/spawner_link.h"

namespace tqfpm::workers {
namespace {

struct Link {
  explicit Link(Duration silence = Duration::max()) {
    auto pair = sys::packet_pair();
    spawner.control = std::move(pair.value().theirs);
    link = std::make_unique<SpawnerLink>(loop.loop, std::move(pair.value().ours), silence);
  }
  void ask(ipc::SpawnKind kind = ipc::SpawnKind::kWeigh, Duration patience = seconds(1)) {
    ipc::SpawnerRequest request{};
    request.kind = kind;
    request.pid = 5;
    link->ask(
        request, {}, [this](const SpawnerAnswer &answer) { take(answer); }, patience);
  }
  void take(const SpawnerAnswer &answer) {
    EXPECT_TRUE(in_step);
    answers.push_back(answer);
    answers.back().trace = nullptr;
    if (answer.trace != nullptr)
      trace = std::string(answer.trace->text, answer.trace->length);
  }
  void turn() {
    loop.engine.turn();
    in_step = true;
    while (link->step(loop.engine.now())) {
    }
    in_step = false;
    link->settle(loop.engine.now());
  }
  test::FakeLoop loop;
  test::FakeSpawner spawner;
  std::unique_ptr<SpawnerLink> link;
  std::vector<SpawnerAnswer> answers;
  std::string trace;
  bool in_step = false;
};

TEST(SpawnerLink, TellsAnAnswerOnce) {
  Link one;
  one.ask();
  test::FakeSpawner::Order order;
  ASSERT_TRUE(one.spawner.next(order));
  EXPECT_EQ(order.request.pid, 5);
  one.turn();
  EXPECT_TRUE(one.answers.empty());
  one.spawner.reply(order, 5, 77);
  one.spawner.reply(order, 5, 78); // nobody has asked
  one.turn();
  ASSERT_EQ(one.answers.size(), 1U);
  EXPECT_TRUE(one.answers[0].ok());
  EXPECT_EQ(one.answers[0].reply.memory, 77U);
  EXPECT_EQ(one.link->pending(), 0U);
  EXPECT_TRUE(one.link->alive());
}

TEST(SpawnerLink, TakesOneThatOwesAnAnswerForTooLongToBeGone) {
  Link one(seconds(10));
  one.ask(ipc::SpawnKind::kWorker);
  one.loop.engine.advance(seconds(2));
  one.turn();
  ASSERT_EQ(one.answers.size(), 1U); // given up, and still owed
  one.loop.engine.advance(milliseconds(7999));
  one.turn();
  EXPECT_TRUE(one.link->alive());
  one.loop.engine.advance(milliseconds(1));
  one.turn();
  EXPECT_FALSE(one.link->alive());
  one.ask();
  one.turn();
  ASSERT_EQ(one.answers.size(), 2U);
  EXPECT_FALSE(one.answers[1].ok());
}

TEST(SpawnerLink, WaitsForOneThatHasMuchToDo) {
  Link one(seconds(10));
  for (int i = 0; i < 5; ++i)
    one.ask(ipc::SpawnKind::kWorker, Duration::max());
  for (int i = 0; i < 5; ++i) {
    one.loop.engine.advance(seconds(9));
    test::FakeSpawner::Order order;
    ASSERT_TRUE(one.spawner.next(order));
    one.spawner.reply(order, 5, 1);
    one.turn();
  }
  EXPECT_EQ(one.answers.size(), 5U);
  one.loop.engine.advance(seconds(100)); // it owes nothing
  one.turn();
  EXPECT_TRUE(one.link->alive());
}

TEST(SpawnerLink, HasMorePatienceWithWhatAFileSystemMayHoldUp) {
  Link one(seconds(10));
  one.ask(ipc::SpawnKind::kWeigh);
  one.loop.engine.advance(seconds(59));
  one.turn();
  EXPECT_TRUE(one.link->alive());
  one.ask(ipc::SpawnKind::kWorker); // which somebody waits for
  one.loop.engine.advance(seconds(10));
  one.turn();
  EXPECT_FALSE(one.link->alive());
}

TEST(SpawnerLink, ReadsOnceMoreBeforeItTakesASpawnerToBeGone) {
  Link one(seconds(10));
  one.ask(ipc::SpawnKind::kWorker);
  test::FakeSpawner::Order order;
  ASSERT_TRUE(one.spawner.next(order));
  one.spawner.reply(order, 5, 1);
  one.loop.engine.advance(seconds(60)); // as if all had stood still
  one.in_step = true;
  while (one.link->step(one.loop.engine.now())) {
  }
  EXPECT_TRUE(one.link->alive());
  EXPECT_EQ(one.answers.size(), 1U);
}

TEST(SpawnerLink, TellsATrace) {
  Link one;
  one.ask(ipc::SpawnKind::kTrace);
  test::FakeSpawner::Order order;
  ASSERT_TRUE(one.spawner.next(order));
  auto reply = std::make_unique<ipc::TraceReply>();
  reply->kind = ipc::SpawnKind::kTrace;
  reply->id = order.request.id;
  reply->length = 3;
  memcpy(reply->text, "abc", 3);
  ASSERT_TRUE(sys::send_packet(one.spawner.control.get(), reply.get(), offsetof(ipc::TraceReply, text) + 3, {}));
  one.turn();
  EXPECT_EQ(one.trace, "abc");
}

TEST(SpawnerLink, SendsAPath) {
  Link one;
  one.link->look(
      "/a/b.php/c", [&](const SpawnerAnswer &answer) { one.take(answer); }, seconds(1));
  test::FakeSpawner::Order order;
  ASSERT_TRUE(one.spawner.next(order));
  EXPECT_EQ(order.path, "/a/b.php/c");
  one.spawner.reply(order, 0, 8);
  one.turn();
  ASSERT_EQ(one.answers.size(), 1U);
  EXPECT_EQ(one.answers[0].reply.memory, 8U);
}

TEST(SpawnerLink, GivesUp) {
  Link one;
  one.ask();
  one.ask(ipc::SpawnKind::kWorker, Duration::max());
  test::FakeSpawner::Order first, second;
  ASSERT_TRUE(one.spawner.next(first) && one.spawner.next(second));
  one.loop.engine.advance(milliseconds(999));
  one.turn();
  EXPECT_TRUE(one.answers.empty());
  one.loop.engine.advance(milliseconds(1));
  one.turn();
  ASSERT_EQ(one.answers.size(), 1U);
  EXPECT_EQ(one.answers[0].why, "the spawner does not answer in time");
  one.spawner.reply(first, 5); // too late
  one.loop.engine.advance(std::chrono::hours(1));
  one.turn();
  EXPECT_EQ(one.answers.size(), 1U);
  one.spawner.reply(second, 6);
  one.turn();
  EXPECT_EQ(one.answers.size(), 2U);
}

TEST(SpawnerLink, TellsWhatWasSaidBeforeItsEnd) {
  Link one;
  one.ask();
  one.ask();
  test::FakeSpawner::Order order;
  ASSERT_TRUE(one.spawner.next(order));
  one.spawner.reply(order, 5, 1);
  one.spawner.control.reset();
  one.link->ended();
  one.turn();
  ASSERT_EQ(one.answers.size(), 2U);
  EXPECT_TRUE(one.answers[0].ok());
  EXPECT_EQ(one.answers[1].why, "the spawner has gone");
  EXPECT_FALSE(one.link->alive());
  one.ask();
  EXPECT_EQ(one.answers.size(), 2U); // not inside of ask()
  one.turn();
  EXPECT_EQ(one.answers.size(), 3U);
}

TEST(SpawnerLink, HasNoAnswerWhenItsQueueIsFull) {
  Link one;
  int asked = 0;
  while (one.answers.empty() && asked < 10000) {
    one.ask(ipc::SpawnKind::kWeigh, seconds(60));
    ++asked;
    one.turn();
  }
  ASSERT_FALSE(one.answers.empty());
  EXPECT_TRUE(one.answers[0].why.starts_with("the spawner does not take orders: "));
  EXPECT_TRUE(one.link->alive());
}

TEST(SpawnerLink, EndsWithWhatNoSpawnerSays) {
  for (const std::size_t length : {1U, 8U, 20U, 30U, 300U}) {
    Link one;
    one.ask();
    std::string bytes(length, 'x');
    ASSERT_TRUE(sys::send_packet(one.spawner.control.get(), bytes.data(), bytes.size(), {}));
    one.turn();
    ASSERT_EQ(one.answers.size(), 1U);
    EXPECT_FALSE(one.answers[0].ok());
    EXPECT_FALSE(one.link->alive());
  }
}

TEST(SpawnerLink, ReadsABoundedNumberInATurn) {
  Link one;
  test::FakeSpawner::Order order;
  order.request.kind = ipc::SpawnKind::kWeigh;
  order.request.id = 99;
  for (int i = 0; i < 100; ++i)
    one.spawner.reply(order, 1);
  one.ask();
  ASSERT_TRUE(one.spawner.next(order));
  one.spawner.reply(order, 5);
  one.turn();
  EXPECT_TRUE(one.answers.empty());
  one.turn();
  EXPECT_EQ(one.answers.size(), 1U);
}

} // namespace
} // namespace tqfpm::workers
