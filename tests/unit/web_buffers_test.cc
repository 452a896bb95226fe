#include <gtest/gtest.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <random>
#include <string>

#include "sys/fd.h"
#include "web/buffers.h"

namespace tqfpm::web {
namespace {

TEST(InputBuffer, KeepsNothingOfWhatIsParsedAtOnce) {
  InputBuffer buffer;
  const std::string fresh = "all of it";
  EXPECT_EQ(buffer.with(fresh).data(), fresh.data()); // no copy
  buffer.keep("");
  EXPECT_TRUE(buffer.empty());
}

TEST(InputBuffer, PutsPiecesTogetherInTheirOrder) {
  std::mt19937 random(7);
  InputBuffer buffer;
  std::string sent;
  std::string parsed;
  for (int i = 0; i < 2000; ++i) {
    const std::string fresh(random() % 50, static_cast<char>('a' + i % 26));
    sent += fresh;
    std::string_view all = buffer.with(fresh);
    const std::size_t taken = all.empty() ? 0 : random() % (all.size() + 1);
    parsed += all.substr(0, taken);
    buffer.keep(all.substr(taken));
    ASSERT_EQ(buffer.empty(), buffer.rest().empty());
    ASSERT_LE(buffer.size(), 2 * buffer.rest().size() + 1);
  }
  EXPECT_EQ(parsed + std::string(buffer.rest()), sent);
}

TEST(InputBuffer, GivesMemoryBack) {
  InputBuffer buffer;
  (void)buffer.with("");
  buffer.keep(std::string(1U << 20, 'x'));
  EXPECT_GE(buffer.capacity(), 1U << 20);
  buffer.keep("");
  EXPECT_LT(buffer.capacity(), 100U);
}

struct Peers {
  Peers() {
    std::array<int, 2> fds{};
    EXPECT_EQ(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, fds.data()), 0);
    own = sys::Fd(fds[0]);
    other = sys::Fd(fds[1]);
  }
  [[nodiscard]] std::string read() const {
    std::string all;
    std::array<char, 65536> bytes{};
    for (ssize_t got = 0; (got = ::read(other.get(), bytes.data(), bytes.size())) > 0;)
      all.append(bytes.data(), static_cast<std::size_t>(got));
    return all;
  }
  sys::Fd own;
  sys::Fd other;
};

TEST(OutputBuffer, KeepsWhatThePeerDoesNotTakeInItsOrder) {
  using Outcome = OutputBuffer::Outcome;
  const Peers peers;
  OutputBuffer buffer;
  std::string sent;
  while (buffer.unsent() < 1U << 20) {
    const std::string piece(100000, static_cast<char>('a' + sent.size() / 100000 % 26));
    sent += piece;
    ASSERT_TRUE(buffer.send(peers.own.get(), piece));
  }
  EXPECT_EQ(buffer.flush(peers.own.get()), Outcome::kStuck);
  std::string got;
  while (buffer.unsent() > 0) {
    got += peers.read();
    ASSERT_EQ(buffer.flush(peers.own.get()), Outcome::kTaken);
    ASSERT_LE(buffer.size(), 2 * buffer.unsent() + 1);
  }
  EXPECT_EQ(got + peers.read(), sent);
  EXPECT_LT(buffer.capacity(), 100U);
}

TEST(OutputBuffer, TellsThatThePeerHasGone) {
  Peers peers;
  OutputBuffer buffer;
  while (buffer.unsent() == 0)
    ASSERT_TRUE(buffer.send(peers.own.get(), std::string(100000, 'x')));
  peers.other.reset();
  EXPECT_EQ(buffer.flush(peers.own.get()), OutputBuffer::Outcome::kBroken);
  OutputBuffer other;
  EXPECT_FALSE(other.send(peers.own.get(), "x"));
}

} // namespace
} // namespace tqfpm::web
