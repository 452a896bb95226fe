// fcgi::Session: what a peer sends means the same however it is cut, and nothing is kept that is not counted.
#include <map>
#include <vector>

#include "fcgi/session.h"
#include "input.h"

namespace {

using namespace tqfpm;
using fcgi::Arrival;
using Kind = Arrival::Kind;

constexpr fcgi::SessionLimits kLimits{600, 1500, 4, 7};

// One connection: bytes come in pieces, and every request is answered when its turn has come.
class Connection {
public:
  void feed(std::string_view piece) {
    waiting_ += piece;
    std::string_view bytes = waiting_;
    while (!ended_) {
      const std::size_t before = bytes.size();
      const char *const front = bytes.data();
      const Arrival arrival = session_.next(bytes);
      FUZZ_CHECK(bytes.size() <= before && bytes.data() + bytes.size() == front + before);
      FUZZ_CHECK(session_.held() <= kLimits.max_held);
      FUZZ_CHECK(arrival.kind != Kind::kBody ||
                 (arrival.data.data() >= front && arrival.data.data() + arrival.data.size() <= bytes.data()));
      if (arrival.kind == Kind::kNothing)
        break;
      FUZZ_CHECK(arrival.kind == Kind::kWait || arrival.kind == Kind::kMalformed || bytes.size() < before);
      take(arrival);
    }
    waiting_.erase(0, waiting_.size() - bytes.size());
    FUZZ_CHECK(waiting_.size() < fcgi::kMaxRecord || ended_);
  }
  // What a listener has been told, pieces of a body joined.
  [[nodiscard]] const std::string &told() const { return told_; }
  // `all`: every id of a request is somewhere in it.
  void end(std::string_view all) {
    for (const auto &[id, body] : bodies_)
      tell("left " + std::to_string(id) + " " + body);
    for (std::size_t at = 0; at + 1 < all.size(); ++at)
      session_.answered(fcgi::u16_at(all, at));
    FUZZ_CHECK(session_.held() == 0 && !session_.in_params());
  }

private:
  void tell(const std::string &line) { told_ += line + "\n"; }
  void take(const Arrival &arrival) {
    const std::string name = std::to_string(arrival.id);
    switch (arrival.kind) {
    case Kind::kNothing:
      return;
    case Kind::kWait:
    case Kind::kAbort:
      FUZZ_CHECK(bodies_.count(arrival.id) > 0);
      answer(arrival.id, arrival.kind == Kind::kWait ? "wait " : "abort ");
      return;
    case Kind::kParams:
      FUZZ_CHECK(bodies_.count(arrival.id) == 0 && arrival.content.size() <= kLimits.max_params);
      tell("params " + name + (arrival.keep ? " keep " : " ") + arrival.content);
      bodies_[arrival.id] = "";
      if (arrival.too_long)
        answer(arrival.id, "too long ");
      return;
    case Kind::kBody:
      FUZZ_CHECK(bodies_.count(arrival.id) > 0 && !arrival.data.empty());
      bodies_[arrival.id] += arrival.data;
      return;
    case Kind::kBodyEnd:
      FUZZ_CHECK(bodies_.count(arrival.id) > 0);
      tell("end " + name);
      if (arrival.id % 2 == 0) // the others are answered when somebody waits for them
        answer(arrival.id, "done ");
      return;
    case Kind::kReply:
      FUZZ_CHECK(arrival.content.size() >= fcgi::kHeaderLength);
      tell("reply " + arrival.content);
      return;
    case Kind::kMalformed:
      FUZZ_CHECK(!arrival.content.empty());
      tell("malformed " + arrival.content);
      ended_ = true;
      return;
    }
  }
  void answer(std::uint16_t id, const char *why) {
    tell(why + std::to_string(id) + " " + bodies_[id]);
    bodies_.erase(id);
    session_.answered(id);
  }

  fcgi::Session session_{kLimits};
  std::string waiting_;
  std::string told_;
  std::map<std::uint16_t, std::string> bodies_; // of requests without an answer
  bool ended_ = false;
};

} // namespace

// The first byte chooses how the rest is cut: each next piece's length is a function of the one before.
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t *data, std::size_t size) {
  fuzz::Input input(data, size);
  unsigned random = input.byte();
  Connection whole;
  Connection pieces;
  Connection bytes;
  const std::string_view all = input.rest();
  whole.feed(all);
  for (std::size_t at = 0; at < all.size();) {
    random = random * 1103515245U + 12345U;
    const std::size_t length = 1 + (random >> 16U) % 23;
    pieces.feed(all.substr(at, length));
    at += length;
  }
  for (const char &c : all)
    bytes.feed({&c, 1});
  whole.end(all);
  pieces.end(all);
  bytes.end(all);
  FUZZ_CHECK(whole.told() == pieces.told());
  FUZZ_CHECK(whole.told() == bytes.told());
  return 0;
}
