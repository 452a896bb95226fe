// Idle connections of web servers go from one generation of a pool to the next, so that none of them writes a request
// into a connection that is being closed.
#pragma once

#include <cstddef>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "sys/event_loop.h"
#include "sys/fd.h"

namespace tqfpm::web {

// The giving end.
class Handover {
public:
  enum class Outcome {
    kGiven, // the next generation has the connection: close ours
    kFull,  // it is behind: try again
    kGone,  // there is nobody to give it to
  };
  void to(sys::Fd socket) { socket_ = std::move(socket); }
  Outcome give(int connection, const std::string &peer);

private:
  sys::Fd socket_;
};

// The taking end: sockets to generations before this one.
class Inheritance {
public:
  struct Connection {
    sys::Fd fd;
    std::string peer;
  };
  // `noted` is set when there is something to take.
  Inheritance(sys::EventLoop &loop, bool &noted) : loop_(loop), noted_(noted) {}
  void from(sys::Fd socket);
  // At most `most` of them.
  std::vector<Connection> take(std::size_t most);

private:
  struct Source {
    sys::Fd socket;
    std::unique_ptr<sys::IoWatch> watch; // after socket
  };
  sys::EventLoop &loop_;
  bool &noted_;
  std::vector<Source> sources_;
};

} // namespace tqfpm::web
