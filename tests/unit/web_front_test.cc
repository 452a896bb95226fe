#include "web/front.h"

#include <gtest/gtest.h>
#include <sys/un.h>

#include <cstring>
#include <memory>

#include "config/table.h"
#include "fake_loop.h"
#include "sys/socket.h"
#include "web_server.h"

namespace tqfpm::web {
namespace {

using status::Metric;

// A front with one listening socket; each whole request gets an answer unless it is told to hold them.
struct Fixture {
  explicit Fixture(std::size_t most = 100) : most_(most) { pool.memory_buffers.value = 64 << 20; }

  void begin() {
    front = std::make_unique<Front>(fake.loop, FrontSettings{pool, board, most_, 5});
    sys::Fd listener(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    const sa_family_t family = AF_UNIX; // a name of the kernel's
    ASSERT_EQ(::bind(listener.get(), reinterpret_cast<const sockaddr *>(&family), sizeof family), 0);
    ASSERT_EQ(::listen(listener.get(), 100), 0);
    length = sizeof address;
    ASSERT_EQ(::getsockname(listener.get(), reinterpret_cast<sockaddr *>(&address), &length), 0);
    front->listen(std::move(listener), sys::Fd());
  }
  std::unique_ptr<test::WebServer> connect() {
    sys::Fd fd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    EXPECT_EQ(::connect(fd.get(), reinterpret_cast<const sockaddr *>(&address), length), 0);
    return std::make_unique<test::WebServer>(std::move(fd));
  }
  void run() {
    for (int i = 0; i < 200; ++i) {
      bool any = fake.engine.turn();
      const TimePoint now = fake.engine.now();
      while (front->work(now)) {
        any = true;
        for (std::size_t at = 0; at < front->touched().size(); ++at)
          look_at(*front->touched()[at]);
      }
      front->settle(now);
      if (!any)
        return;
    }
  }
  void look_at(Client &client) {
    for (std::size_t i = 0; i < client.requests().size();) {
      pool::Request &each = *client.requests()[i];
      const std::size_t before = client.requests().size();
      if (each.gone)
        client.end(each);
      else if (each.body_complete && !hold) {
        std::string records;
        fcgi::append_end_request(records, each.id, 0, fcgi::ProtocolStatus::kRequestComplete);
        client.send(records);
        client.end(each);
      }
      i += client.requests().size() == before ? 1 : 0;
    }
  }

  test::FakeLoop fake;
  config::PoolConfig pool = config::default_pool("www");
  status::Scoreboard board{};
  std::unique_ptr<Front> front;
  sockaddr_un address{};
  socklen_t length = 0;
  bool hold = false;

private:
  std::size_t most_;
};

TEST(Front, ServesWhoConnects) {
  Fixture f;
  f.begin();
  const auto server = f.connect();
  server->send(test::request(1, true));
  f.run();
  server->read();
  EXPECT_EQ(server->answers.of_id[1].ends, 1);
  EXPECT_EQ(f.front->connections(), 1U);
  server->close();
  f.run();
  EXPECT_EQ(f.front->connections(), 0U);
}

TEST(Front, ConnectionsBeyondTheMostWaitInTheBacklog) {
  Fixture f(3);
  f.begin();
  std::vector<std::unique_ptr<test::WebServer>> servers;
  for (int i = 0; i < 8; ++i) {
    servers.push_back(f.connect());
    servers.back()->send(test::request(1, true));
  }
  f.run();
  EXPECT_EQ(f.front->connections(), 3U);
  std::size_t answered = 0;
  for (auto &each : servers) {
    each->close(); // the first ones make room
    f.run();
  }
  answered = f.board.get(Metric::accepted_connections);
  EXPECT_EQ(answered, 8U);
  EXPECT_EQ(f.front->connections(), 0U);
}

TEST(Front, BodiesOfAllClientsAreBoundedTogether) {
  Fixture f;
  f.pool.memory_buffers.value = 4 << 20;
  f.begin();
  f.hold = true;
  std::vector<std::unique_ptr<test::WebServer>> servers;
  const std::string wire =
      test::head(1, true, {{"CONTENT_LENGTH", "900001"}}) + test::body(1, std::string(900000, 'x'), false);
  for (int i = 0; i < 20; ++i) {
    servers.push_back(f.connect());
    f.run();
    for (int n = 0; n < 30; ++n) {
      servers.back()->send(n == 0 ? wire : std::string());
      f.run();
    }
  }
  EXPECT_TRUE(f.front->pressed());
  EXPECT_LT(f.front->held(), 8U << 20);
  servers.clear();
  f.fake.engine.advance(seconds(2)); // who is not read is looked at from time to time
  f.run();
  EXPECT_FALSE(f.front->pressed());
  EXPECT_EQ(f.front->held(), 0U);
}

// Heads that nobody reads for want of memory are given up with their peers, and others are served meanwhile.
TEST(Front, UnfinishedHeadsDoNotHoldAllMemoryForEver) {
  Fixture f;
  f.pool.memory_buffers.value = 4 << 20;
  f.begin();
  std::string wire;
  fcgi::append_begin_request(wire, 1, fcgi::Role::kResponder, true);
  for (int i = 0; i < 15; ++i)
    fcgi::append_stream(wire, fcgi::RecordType::kParams, 1, std::string(60000, 'x'));
  std::vector<std::unique_ptr<test::WebServer>> servers;
  for (int i = 0; i < 12; ++i) {
    servers.push_back(f.connect());
    for (int n = 0; n < 30; ++n) {
      servers.back()->send(n == 0 ? wire : std::string());
      f.run();
    }
  }
  EXPECT_TRUE(f.front->pressed());
  EXPECT_LT(f.front->held(), 10U << 20);
  const auto other = f.connect();
  other->send(test::request(1, true));
  f.run();
  other->read();
  EXPECT_EQ(other->answers.of_id[1].ends, 1);
  servers.clear();
  f.fake.engine.advance(seconds(2));
  f.run();
  EXPECT_EQ(f.front->connections(), 1U);
  EXPECT_FALSE(f.front->pressed());
}

TEST(Front, ADrainGivesIdleConnectionsAway) {
  Fixture from;
  from.begin();
  Fixture to;
  to.begin();
  auto pair = sys::packet_pair();
  ASSERT_TRUE(pair.ok());
  const auto idle = from.connect();
  const auto busy = from.connect();
  idle->send(test::request(1, true));
  from.run();
  from.hold = true;
  busy->send(test::request(1, true));
  from.run();
  to.front->adopt(std::move(pair.value().theirs));
  from.front->drain(std::move(pair.value().ours));
  from.run();
  to.run();
  EXPECT_EQ(from.front->connections(), 1U);
  EXPECT_EQ(to.front->connections(), 1U);
  idle->send(test::request(1, true));
  to.run();
  idle->read();
  EXPECT_EQ(idle->answers.of_id[1].ends, 2);
  from.hold = false;
  from.front->find(2)->touch();
  from.look_at(*from.front->find(2));
  from.run();
  to.run();
  EXPECT_TRUE(from.front->empty());
  EXPECT_EQ(to.front->connections(), 2U);
}

TEST(Front, ADrainDoesNotWaitForWhoHasSentOneByte) {
  Fixture f;
  f.begin();
  const auto server = f.connect();
  server->send(std::string(1, '\1'));
  f.run();
  f.front->drain(sys::Fd());
  f.run();
  EXPECT_TRUE(f.front->expects());
  f.fake.engine.advance(seconds(3));
  f.run();
  EXPECT_FALSE(f.front->expects());
  EXPECT_TRUE(f.front->empty());
  EXPECT_EQ(f.board.get(Metric::client_timeouts), 1U);
}

TEST(Front, ADescriptorThatAPeerPassesIsNotTaken) {
  Fixture f;
  f.begin();
  const auto server = f.connect();
  server->send(test::request(1, true));
  f.run();
  EXPECT_FALSE(server->pass_descriptor()) << "the kernel should refuse it, from Linux 6.16 on";
}

} // namespace
} // namespace tqfpm::web
