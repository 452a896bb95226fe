// One connection of a web server: receives requests, sends what they are answered.
//
// Passive: its watch notes that there is something to do; work() does it, and what came of it is seen in requests(),
// each with its state. send(), end() and cut() never end another request; what a failed send means is seen by the next
// look: requests of a connection that has gone are `gone`. settle() brings the watch in line with web/flow.h and says
// until when the peer has time.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "fcgi/session.h"
#include "pool/request.h"
#include "sys/event_loop.h"
#include "sys/fd.h"
#include "web/buffers.h"
#include "web/flow.h"

namespace tqfpm::web {

class Client;

// Shared by the clients of a front.
struct ClientSettings {
  std::string pool;
  FlowLimits limits;
  std::size_t advertised = 1; // FCGI_MAX_CONNS
};

// Where clients note themselves: who has something to do, and whom this round has concerned.
struct Notes {
  std::vector<Client *> ready;
  std::vector<Client *> touched;
  pool::RequestKey next_key = 1;
  Pressure pressure = Pressure::kNone; // as the front has found it
};

class Client {
public:
  // `apart`: of pm.status_listen. The descriptor does not block.
  Client(sys::EventLoop &loop, Notes &notes, const ClientSettings &settings, std::uint64_t key, sys::Fd fd,
         std::string peer, bool apart);
  ~Client();
  Client(const Client &) = delete;
  Client &operator=(const Client &) = delete;

  [[nodiscard]] std::uint64_t key() const { return key_; }
  [[nodiscard]] const std::string &peer() const { return peer_; }
  [[nodiscard]] int fd() const { return fd_.get(); }
  [[nodiscard]] bool apart() const { return apart_; }
  [[nodiscard]] ClientState state() const { return state_; }
  // Is its watch what web/flow.h says, or will it be looked at again? True between two rounds, always.
  [[nodiscard]] bool settled() const;
  // Without a request, and with no byte of one: the connection can be closed or handed over without loss.
  [[nodiscard]] bool idle() const;
  // Is it read at the moment? Then the end of its peer is noticed.
  [[nodiscard]] bool reads() const { return (watch_.events() & sys::kReadable) != 0; }
  // A request, or the beginning of one, is here that no worker has yet.
  [[nodiscard]] bool expects() const;
  // It has gone, and all its requests have ended: destroy it.
  [[nodiscard]] bool finished() const { return state_ == ClientState::kClosed && requests_.empty(); }
  // Bytes that it holds: input, parameters, bodies, answers.
  [[nodiscard]] std::size_t held() const;
  // It takes no more of an answer for now: where memory is short nothing beyond what it has.
  [[nodiscard]] bool congested() const {
    return out_.unsent() >= (notes_.pressure != Pressure::kNone ? 1 : settings_.limits.response_buffer);
  }
  // Why a malformed connection was closed; "" if it was not. Told once.
  std::string take_complaint() { return std::exchange(complaint_, {}); }
  // Oldest first.
  [[nodiscard]] const std::vector<std::unique_ptr<pool::Request>> &requests() const { return requests_; }

  // There is something to do in this round, or the next.
  void note();
  // The round is concerned with it: settle() will be called.
  void touch();
  // Notes that there is something to do, if what has been read can go on now.
  void resume() {
    if (can_parse())
      note();
  }
  // Reads, parses and sends as far as it goes, within a budget; if there is more to do it notes itself again.
  void work(TimePoint now);
  // Response records of a request, whole ones, ids set. What cannot be sent now is kept.
  void send(std::string_view records);
  // The request has its answer and is destroyed; the connection goes on, or is closed when all is sent.
  void end(pool::Request &request);
  // The request's answer cannot be completed, and must not look as if it were. The request is destroyed.
  void cut(pool::Request &request);
  // For a connection that is not read at the moment: has the peer gone? Then its requests are `gone`.
  void look_for_end();
  // At the end of a round: the watch, due() and charged().
  void settle(TimePoint now);
  // When expire() is due; TimePoint::max(): never.
  [[nodiscard]] TimePoint due() const { return due_; }
  // Bytes that it held when the last round ended.
  [[nodiscard]] std::size_t charged() const { return charged_; }
  // What the peer is late with ends: a request's body, or the connection. kNothing: it was something else.
  Late expire(TimePoint now);
  // due() is then at the latest, whatever comes.
  void call_back(TimePoint when) { called_back_ = when; }
  // Closes the connection; who still has a request on it finds it `gone`.
  void drop() { lost(); }

private:
  [[nodiscard]] Load load() const;
  [[nodiscard]] bool receiving() const;
  [[nodiscard]] bool can_parse() const;
  [[nodiscard]] bool unseen_end() const;
  void read(TimePoint now);
  void drop_input();
  void parse(std::string_view bytes);
  void take(fcgi::Arrival &arrival);
  void begin(fcgi::Arrival &arrival);
  void add_body(pool::Request &request, std::string_view data);
  void end_body(pool::Request &request);
  void end_of_input(TimePoint now);
  void ask_for_reset();
  void await(const Wait &wait, TimePoint now);
  void flush();
  void close();
  void close_if_last();
  void all_sent();
  void lost();
  void forget(const pool::Request &request);
  pool::Request *find(std::uint16_t id);

  Notes &notes_;
  const ClientSettings &settings_;
  std::uint64_t key_;
  sys::Fd fd_;
  std::string peer_;
  fcgi::Session session_;
  std::vector<std::unique_ptr<pool::Request>> requests_;
  InputBuffer in_;
  OutputBuffer out_;
  std::string complaint_;
  ClientState state_ = ClientState::kOpen;
  Wait wait_;            // for the peer, since progress_
  TimePoint progress_{}; // when the peer last did what it has to do
  TimePoint called_back_ = TimePoint::max();
  TimePoint due_ = TimePoint::max();
  std::size_t charged_ = 0;
  std::size_t steps_ = 0; // of this turn's work
  struct Flags {
    bool ready = false;         // it is in notes_.ready
    bool touched = false;       // it is in notes_.touched
    bool readable = false;      // as the watch has told
    bool peer_done = false;     // it sends nothing more
    bool has_sent = false;      // the peer, in this round
    bool has_taken = false;     // ... something of an answer
    bool needs_more = false;    // what is unparsed is the beginning of something
    bool waits_for_id = false;  // what is unparsed begins a request with an id that is owed an answer
    bool last_answered = false; // a request without FCGI_KEEP_CONN has its answer
    bool unread_body = false;   // a request was answered before its body had come
  };
  Flags flags_;
  bool apart_;
  sys::IoWatch watch_; // after fd_
};

} // namespace tqfpm::web
