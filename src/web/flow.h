// Who may send how much, and until when: decided from what one connection of a web server holds at the moment. Pure:
// the client asks at the end of each round that has concerned it, so nothing has to be remembered in between.
#pragma once

#include <cstddef>
#include <cstdint>

#include "base/clock.h"

namespace tqfpm::web {

//                 +--------------------------------------------------------------+
//                 |                    time-out, error, end of both halves       v
//   kOpen --> kHalfClosed ----------+                                        kClosed
//     |        the peer's end       | last request has its answer                ^
//     +-----------------------------+--> kClosing --> kLingering ----------------+
//       an answer that ends the connection   all sent, input left
//
// kOpen, kHalfClosed: requests are received or owed an answer. From kClosing on there is none.
enum class ClientState : std::uint8_t {
  kOpen,
  kHalfClosed, // the peer sends nothing more; what it has sent whole is answered
  kClosing,    // no more requests are read; closed when all is sent
  kLingering,  // all is sent; input is dropped, so that no reset takes the answer away
  kClosed,
};

// Of memory.buffers, by all connections together.
enum class Pressure : std::uint8_t {
  kNone,
  kHigh, // it is used up: no more of bodies and answers is taken than what makes room
  kFull, // and a quarter more: besides, only connections that hold little are read
};

// What a connection holds and waits for.
struct Load {
  ClientState state = ClientState::kOpen;
  std::size_t unsent = 0;       // bytes for the peer
  std::size_t held = 0;         // bytes of it all
  std::size_t largest_body = 0; // bytes of a request's body that no worker has got yet
  bool starves = false;         // a worker has taken all that was here of a request's body, and waits for more
  bool waits_for_id = false;    // the next request has an id that is owed an answer
  bool feeds_worker = false;    // a request that a worker has is not complete
  Pressure pressure = Pressure::kNone;
  bool in_head = false; // in the middle of a request's parameters, or of a record
  bool in_body = false; // a request's body is not complete
};

struct FlowLimits {
  std::size_t request_buffer = 1U << 20;  // bytes of a body held for a worker
  std::size_t response_buffer = 1U << 20; // bytes of answers held for a client
  // Zero: no limit.
  Duration head = seconds(60);
  Duration body = seconds(60);
  Duration send = seconds(60);
  Duration linger = seconds(5);
};

// May bytes that have been read be parsed? No more requests, and no more of a body, while a peer takes nothing; but one
// request that waits must not hold up another one on the same connection for ever.
inline bool may_parse(const Load &load, const FlowLimits &limits) {
  return (load.state == ClientState::kOpen || load.state == ClientState::kHalfClosed) && !load.waits_for_id &&
         load.unsent < limits.response_buffer &&
         (load.largest_body < limits.request_buffer || (load.starves && load.held < 4 * limits.request_buffer));
}

inline constexpr std::size_t kLittle = 16384; // bytes of a connection, which a usual request does not exceed

// May the socket be read? Where memory is short only what a worker waits for, since that makes room.
inline bool may_read(const Load &load, const FlowLimits &limits) {
  if (load.state == ClientState::kLingering)
    return true; // and dropped
  const bool room = load.feeds_worker || load.pressure == Pressure::kNone ||
                    (!load.in_body && (load.pressure == Pressure::kHigh || load.held <= kLittle));
  return load.state == ClientState::kOpen && may_parse(load, limits) && room;
}

// What the peer is late with when its time is up.
enum class Late : std::uint8_t { kNothing, kHead, kBody, kSend, kLinger };

struct Wait {
  Late what = Late::kNothing;
  Duration patience{}; // since the last progress
};

// What the peer has to do next. Nothing runs while we are the ones who wait: for a worker, or for room.
inline Wait wait_for_peer(const Load &load, const FlowLimits &limits) {
  if (load.state == ClientState::kLingering)
    return {Late::kLinger, limits.linger};
  if (load.state == ClientState::kClosed)
    return {};
  if (load.unsent > 0 && limits.send > Duration::zero())
    return {Late::kSend, limits.send};
  // Also where it is not read for want of memory: what it holds has to be free again some time.
  if (load.in_head && limits.head > Duration::zero() && may_parse(load, limits))
    return {Late::kHead, limits.head};
  if (!may_read(load, limits))
    return {};
  if (load.in_body && limits.body > Duration::zero())
    return {Late::kBody, limits.body};
  return {};
}

} // namespace tqfpm::web
