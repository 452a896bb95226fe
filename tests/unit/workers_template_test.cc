#include <gtest/gtest.h>

#include "fake_workers.h"
#include "workers/template.h"

namespace tqfpm::workers {
namespace {

using What = TemplateTold::What;

struct One {
  One() {
    Template::Ends ends;
    auto made = Template::make(
        loop.loop, [this] { ++notes; }, true, loop.engine.now(), ends);
    mine = std::move(made.value());
    peer.control = std::move(ends.control);
    peer.out = std::move(ends.out);
    peer.err = std::move(ends.err);
  }
  bool next() {
    loop.engine.turn();
    const bool any = mine->next(told, loop.engine.now());
    mine->settle();
    return any;
  }
  test::FakeLoop loop;
  test::FakeTemplate peer;
  int notes = 0;
  std::unique_ptr<Template> mine;
  TemplateTold told;
};

TEST(Template, BecomesReady) {
  One one;
  EXPECT_FALSE(one.next());
  one.peer.ready();
  ASSERT_TRUE(one.next());
  EXPECT_EQ(one.notes, 1);
  EXPECT_EQ(one.told.what, What::kReady);
  EXPECT_EQ(one.told.facts.version, 80200U);
  EXPECT_TRUE(one.mine->ready());
  EXPECT_EQ(one.mine->due(), TimePoint::max());
}

TEST(Template, HasToLoadTheLibrary) {
  One one;
  one.loop.engine.advance(milliseconds(9999));
  EXPECT_FALSE(one.next());
  one.loop.engine.advance(milliseconds(1));
  ASSERT_TRUE(one.next());
  EXPECT_EQ(one.told.what, What::kGone);
  EXPECT_EQ(one.told.text, "php-cgi does not load libtqfpm-template.so");
  EXPECT_FALSE(one.mine->was_ready());
}

TEST(Template, MayTakeLongerWhenItHasTheLibrary) {
  One one;
  one.peer.reply(ipc::TemplateReplyType::kLoaded);
  EXPECT_FALSE(one.next());
  one.loop.engine.advance(milliseconds(59999));
  EXPECT_FALSE(one.next());
  one.loop.engine.advance(milliseconds(1));
  ASSERT_TRUE(one.next());
  EXPECT_EQ(one.told.text, "php-cgi does not get ready");
}

TEST(Template, SaysNothingOutOfOrder) {
  for (const auto type : {ipc::TemplateReplyType::kReady, ipc::TemplateReplyType::kSpawnFailed,
                          static_cast<ipc::TemplateReplyType>(77)}) {
    One one;
    one.peer.reply(type);
    ASSERT_TRUE(one.next());
    EXPECT_EQ(one.told.what, What::kGone);
  }
  One one;
  one.peer.ready();
  ASSERT_TRUE(one.next());
  (void)sys::send_packet(one.peer.control.get(), "x", 1, {});
  ASSERT_TRUE(one.next());
  EXPECT_EQ(one.told.text, "it has sent a report of a wrong length");
  EXPECT_TRUE(one.mine->was_ready());
}

TEST(Template, ForksWorkers) {
  One one;
  one.peer.ready();
  ASSERT_TRUE(one.next());
  const int fds[] = {0, 1, 2};
  ASSERT_TRUE(one.mine->spawn(pool::WorkerId{3, 4}, fds).ok());
  const auto order = one.peer.order();
  ASSERT_NE(order, nullptr);
  EXPECT_EQ(order->id, (pool::WorkerId{3, 4}));
  one.peer.reply(ipc::TemplateReplyType::kSpawnFailed, order->id, ENOMEM);
  ASSERT_TRUE(one.next());
  EXPECT_EQ(one.told.what, What::kSpawnFailed);
  EXPECT_EQ(one.told.worker, order->id);
  EXPECT_EQ(one.told.error, ENOMEM);
}

TEST(Template, IsGoneWhenItsProcessIs) {
  One one;
  one.mine->started(5);
  one.peer.ready();
  one.mine->ended("exited with code 1", false); // what it has said before is told first
  ASSERT_TRUE(one.next());
  EXPECT_EQ(one.told.what, What::kReady);
  ASSERT_TRUE(one.next());
  EXPECT_EQ(one.told.text, "exited with code 1");
  EXPECT_EQ(one.mine->pid(), -1);
}

TEST(Template, HasItsLinesTaken) {
  One one;
  std::vector<std::string> lines;
  const auto drain = [&](bool at_end) {
    one.mine->drain(1000, at_end, one.loop.engine.now(), [&](const std::string &line) { lines.push_back(line); });
  };
  (void)!::write(one.peer.err.get(), "one\ntwo\nthr", 11);
  drain(false); // nothing is noted
  EXPECT_TRUE(lines.empty());
  one.next();
  drain(false);
  EXPECT_EQ(lines, (std::vector<std::string>{"one", "two"}));
  drain(true);
  EXPECT_EQ(lines.back(), "thr");
}

} // namespace
} // namespace tqfpm::workers
