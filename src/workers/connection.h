// FastCGI to one php-cgi over one socket. Passive: its watch only notes that something can be done; read() and write()
// do it and return what has happened.
//
// One request at a time, with id 1 towards php-cgi. Nothing is copied on the way of an answer: whole records lie in a
// buffer that all connections share, their ids set for the client, until the next read() of any connection.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <utility>

#include "fcgi/response.h"
#include "sys/event_loop.h"
#include "sys/fd.h"

namespace tqfpm::workers {

class Connection {
public:
  // Called by the watch, with no other duty than to note that there is work.
  using Note = std::function<void()>;

  enum class Sent : std::uint8_t {
    kOk,       // sent, or kept until the worker takes it
    kReturned, // it is closed and not a byte of the request was sent: head and body are not gone, see begin()
    kBroken,   // it is closed; what the worker has written before may still be read
  };
  struct Received {
    enum class What : std::uint8_t {
      kNothing,  // not now, or no whole record (a `fault` may be told all the same)
      kAnswer,   // records of the request's answer
      kEnded,    // ... its last ones, END_REQUEST included
      kFinished, // ... after which the answer is complete, but the script goes on: let_go() has to follow
      kMuttered, // the script that was let go has logged `muttered`
      kCameBack, // ... has ended; perhaps with `muttered`. The connection is closed
      kProbed,   // probe() has its answer. The connection is closed
      kClosed,   // the connection is closed; a running request has no (whole) answer
    };
    What what = What::kNothing;
    std::string_view records;
    fcgi::ResponseScan scan;
    std::string muttered;        // lines, with newlines between
    const char *fault = nullptr; // and then it has sent what php-cgi does not send: the worker has to go
  };

  Connection() = default;

  // Takes a connection (non-blocking) on which php-cgi listens.
  void open(sys::EventLoop &loop, sys::Fd fd, Note note);
  void close();
  [[nodiscard]] bool connected() const { return fd_.valid(); }

  // A request: `head` is BEGIN_REQUEST and PARAMS, `body` STDIN records, all of which are taken; `whole`: the end of
  // STDIN is one of them, or has been taken before. The answer's records get `client_id`.
  Sent begin(std::string head, std::string &body, bool whole, std::uint16_t client_id);
  // The body is shorter than PHP has been told: when it has been sent our half of the connection ends, so that PHP does
  // not wait for more, and the connection is not used again. Call it before begin() or pump() with the end of the body.
  void end_early() { ends_early_ = true; }
  // Sends what can be sent now, and then of the body what is here. kReturned gives `body` back all that was ever taken.
  Sent pump(std::string &body, bool whole);
  // Something that is no request and whose answer frees the worker (php.spawn = exec).
  Sent probe(std::string record);
  // Is there something that the worker has not taken?
  [[nodiscard]] bool has_unsent() const { return connected() && unsent() > 0; }

  // What the worker has sent: at most one buffer. With `all` also while it is held, for a worker that has ended.
  Received read(bool all = false);
  // Did the last read() find so much that there may be more?
  [[nodiscard]] bool more() const { return connected() && more_; }
  // The answer is not read for now: its client takes nothing.
  void hold(bool on);
  // After kFinished: what the script still writes is dropped until its END_REQUEST. It gets of the body what is here,
  // and no more.
  void let_go(std::string &body, bool whole);

  // What the watch has noted since it was asked last.
  [[nodiscard]] unsigned take_noted() { return std::exchange(noted_, 0U); }

private:
  enum class Mode : std::uint8_t { kIdle, kRequest, kProbe, kLeftover };
  [[nodiscard]] std::size_t unsent() const { return upstream_.size() - written_; }
  Sent send(std::string *body);
  void clear_upstream();
  Received scan(char *buffer, std::size_t length);
  Received scan_answer(char *buffer, std::size_t length);
  Received scan_leftover(char *buffer, std::size_t length);
  void keep(const char *bytes, std::size_t length) { tail_.assign(bytes, length); }
  void watch();

  sys::Fd fd_;
  std::unique_ptr<sys::IoWatch> watch_; // after fd_
  Mode mode_ = Mode::kIdle;
  std::uint16_t client_id_ = 0;
  std::string tail_;     // an incomplete record, or with unscanned_ records that nobody has looked at
  std::string upstream_; // bytes for the worker, from written_ on
  std::size_t written_ = 0;
  std::size_t head_size_ = 0;       // of upstream_, before the body
  std::uint64_t total_written_ = 0; // of this request
  unsigned noted_ = 0;
  bool whole_ = true;       // the end of the request's body has been taken
  bool ends_early_ = false; // see end_early()
  bool held_ = false;       // see hold()
  bool more_ = false;       // see more()
  bool unscanned_ = false;  // see tail_
};

} // namespace tqfpm::workers
