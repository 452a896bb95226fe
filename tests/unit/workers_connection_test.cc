#include <gtest/gtest.h>

#include "fake_workers.h"
#include "workers/connection.h"

namespace tqfpm::workers {
namespace {

using What = Connection::Received::What;
using Sent = Connection::Sent;

struct Pair {
  Pair() {
    auto pair = sys::stream_pair();
    php.fd = std::move(pair.value().theirs);
    connection.open(loop.loop, std::move(pair.value().ours), [this] { ++notes; });
  }
  Sent begin(std::string body = "", bool whole = true, std::uint16_t id = 1) {
    return connection.begin("HEAD", body, whole, id);
  }
  test::FakeLoop loop;
  test::FakePhp php;
  int notes = 0;
  Connection connection;
};

TEST(Connection, SendsARequestAndReadsItsAnswer) {
  Pair pair;
  EXPECT_EQ(pair.begin("BODY"), Sent::kOk);
  EXPECT_EQ(pair.php.read(), "HEADBODY");
  EXPECT_EQ(pair.connection.read().what, What::kNothing);
  pair.php.answer("hello");
  pair.loop.engine.turn();
  EXPECT_EQ(pair.notes, 1);
  EXPECT_EQ(pair.connection.take_noted(), sys::kReadable);
  const auto received = pair.connection.read();
  EXPECT_EQ(received.what, What::kEnded);
  EXPECT_EQ(received.scan.first_stdout, "hello");
  EXPECT_EQ(received.fault, nullptr);
  EXPECT_TRUE(pair.connection.connected());
}

TEST(Connection, TellsWholeRecordsAlone) {
  Pair pair;
  pair.begin("", true, 7);
  std::string records;
  fcgi::append_stream(records, fcgi::RecordType::kStdout, 1, "abc");
  pair.php.write(records.substr(0, 10));
  auto received = pair.connection.read();
  EXPECT_EQ(received.what, What::kNothing);
  pair.php.write(records.substr(10) + records.substr(0, 3));
  received = pair.connection.read();
  EXPECT_EQ(received.what, What::kAnswer);
  ASSERT_EQ(received.records.size(), records.size());
  EXPECT_EQ(received.records[3], 7); // the client's id
}

TEST(Connection, IsNotUsedAgainWhenTheBodyWasNotTaken) {
  Pair pair;
  pair.begin("part of it", false);
  pair.php.answer("enough");
  EXPECT_EQ(pair.connection.read().what, What::kEnded);
  EXPECT_FALSE(pair.connection.connected());
}

TEST(Connection, IsUsedAgainWhenTheBodyWasTaken) {
  Pair pair;
  pair.begin("part of it", false);
  std::string more = " and the rest";
  EXPECT_EQ(pair.connection.pump(more, true), Sent::kOk);
  EXPECT_TRUE(more.empty());
  EXPECT_EQ(pair.php.read(), "HEADpart of it and the rest");
  pair.php.answer("thanks");
  EXPECT_EQ(pair.connection.read().what, What::kEnded);
  EXPECT_TRUE(pair.connection.connected());
}

TEST(Connection, GivesARequestBackOfWhichNothingWasSent) {
  Pair pair;
  pair.php.fd.reset();
  std::string body = "BODY";
  EXPECT_EQ(pair.connection.begin("HEAD", body, true, 1), Sent::kReturned);
  EXPECT_EQ(body, "BODY");
  EXPECT_FALSE(pair.connection.connected());
}

TEST(Connection, ReadsWhatWasWrittenBeforeItBroke) {
  Pair pair;
  std::string body(4U << 20, 'x');
  EXPECT_EQ(pair.connection.begin("HEAD", body, false, 1), Sent::kOk);
  EXPECT_TRUE(pair.connection.has_unsent());
  pair.php.answer("too large");
  pair.php.fd.reset();
  std::string none;
  EXPECT_EQ(pair.connection.pump(none, false), Sent::kBroken);
  const auto received = pair.connection.read();
  EXPECT_EQ(received.what, What::kEnded);
  EXPECT_EQ(received.scan.first_stdout, "too large");
  EXPECT_FALSE(pair.connection.connected());
}

TEST(Connection, TellsThatItIsWritableAgain) {
  Pair pair;
  std::string body(4U << 20, 'x');
  (void)pair.connection.begin("", body, true, 1);
  std::size_t got = 0;
  for (int i = 0; i < 1000 && pair.connection.has_unsent(); ++i) {
    got += pair.php.read().size();
    pair.loop.engine.turn();
    if ((pair.connection.take_noted() & sys::kWritable) != 0) {
      EXPECT_EQ(pair.connection.pump(body, true), Sent::kOk);
    }
  }
  got += pair.php.read().size();
  EXPECT_EQ(got, 4U << 20);
  const int before = pair.notes;
  pair.loop.engine.turn();
  EXPECT_EQ(pair.notes, before);
}

TEST(Connection, IsNotReadWhileItIsHeld) {
  Pair pair;
  pair.begin();
  pair.connection.hold(true);
  pair.php.answer("slow");
  pair.loop.engine.turn();
  EXPECT_EQ(pair.notes, 0);
  EXPECT_EQ(pair.connection.read().what, What::kNothing);
  EXPECT_EQ(pair.connection.read(true).what, What::kEnded); // it has ended: now or never
}

TEST(Connection, GoesOnAfterAnEarlyFinish) {
  Pair pair;
  pair.begin("", false);
  std::string end;
  fcgi::append_stream(end, fcgi::RecordType::kStderr, 1, "a word");
  fcgi::append_stream(end, fcgi::RecordType::kStderr, 1, "another");
  fcgi::append_end_request(end, 1, 0, fcgi::ProtocolStatus::kRequestComplete);
  pair.php.out("done");
  pair.php.finish_early();
  pair.php.write(end);
  auto received = pair.connection.read();
  EXPECT_EQ(received.what, What::kFinished);
  EXPECT_EQ(received.scan.first_stdout, "done");
  std::string body = "rest";
  pair.connection.let_go(body, false);
  EXPECT_EQ(pair.connection.pump(body, false), Sent::kOk);
  std::string stdin_end;
  fcgi::append_stream_end(stdin_end, fcgi::RecordType::kStdin, 1);
  EXPECT_EQ(pair.php.read(), "HEADrest" + stdin_end);
  ASSERT_TRUE(pair.connection.more());
  received = pair.connection.read();
  EXPECT_EQ(received.what, What::kCameBack);
  EXPECT_EQ(received.muttered, "a word\nanother");
  EXPECT_FALSE(pair.connection.connected());
}

TEST(Connection, TellsFaults) {
  {
    Pair pair;
    pair.php.write("x");
    EXPECT_STREQ(pair.connection.read().fault, "output without a request");
  }
  {
    Pair pair;
    pair.begin();
    pair.php.out("good");
    pair.php.write("\x02garbage");
    const auto received = pair.connection.read();
    EXPECT_EQ(received.what, What::kAnswer);
    EXPECT_STREQ(received.fault, "malformed FastCGI");
  }
  {
    Pair pair;
    pair.begin();
    std::string records;
    fcgi::append_end_request(records, 1, 0, fcgi::ProtocolStatus::kRequestComplete);
    pair.php.write(records + "more");
    const auto received = pair.connection.read();
    EXPECT_EQ(received.what, What::kEnded);
    EXPECT_STREQ(received.fault, "bytes after END_REQUEST");
  }
}

TEST(Connection, TellsItsEnd) {
  Pair pair;
  pair.begin();
  pair.php.out("half of");
  pair.php.fd.reset();
  EXPECT_EQ(pair.connection.read().what, What::kAnswer);
  EXPECT_EQ(pair.connection.read().what, What::kClosed);
  EXPECT_FALSE(pair.connection.connected());
}

TEST(Connection, IsClosedWhenItsProbeIsAnswered) {
  Pair pair;
  EXPECT_EQ(pair.connection.probe("?"), Sent::kOk);
  pair.php.write("!");
  EXPECT_EQ(pair.connection.read().what, What::kProbed);
  EXPECT_FALSE(pair.connection.connected());
}

} // namespace
} // namespace tqfpm::workers
