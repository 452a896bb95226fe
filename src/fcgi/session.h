// The server side of one FastCGI connection: bytes in, events out. It checks the protocol and knows which requests
// are being received; what happens with them is the handler's.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "fcgi/format.h"

namespace tqfpm::fcgi {

// What a session tells. A handler must not destroy the session inside a call.
class SessionHandler {
public:
  virtual ~SessionHandler() = default;
  // The parameters of request `id` are complete; `content` is the whole stream. `keep` is FCGI_KEEP_CONN.
  virtual void on_params(std::uint16_t id, Role role, bool keep, std::string content) = 0;
  // A piece of the body; it comes after on_params. The last call of a request has `last` set and perhaps no data.
  virtual void on_body(std::uint16_t id, std::string_view data, bool last) = 0;
  // FCGI_ABORT_REQUEST, or a request refused by the session (its answer has been sent).
  virtual void on_abort(std::uint16_t id) = 0;
  // Bytes that go to the peer: answers to management records and refusals.
  virtual void on_reply(std::string_view bytes) = 0;
};

struct SessionLimits {
  std::size_t max_params = 1U << 20; // bytes of one request's PARAMS stream
  std::size_t max_requests = 256;    // received at the same time on one connection
  std::size_t advertised = 1;        // FCGI_MAX_CONNS and FCGI_MAX_REQS
};

class Session {
public:
  Session(SessionHandler &handler, SessionLimits limits) : handler_(handler), limits_(limits) {}

  // Feeds what has arrived and returns how many bytes were used; the caller keeps the rest and offers it again with
  // what follows. Body bytes are passed on before their record is complete. Error: the peer does not speak FastCGI;
  // close the connection.
  Result<std::size_t> consume(std::string_view bytes);
  // The request has ended or is answered: what still comes for it is dropped.
  void forget(std::uint16_t id);
  // Is any request in the middle of being received?
  [[nodiscard]] bool receiving() const { return !intakes_.empty() || body_left_ > 0; }

private:
  struct Intake {
    std::uint16_t id = 0;
    Role role = Role::kResponder;
    bool keep = false;
    bool params_done = false;
    std::string params;
  };
  Intake *find(std::uint16_t id);
  Status record(const Header &header, std::string_view content);
  Status begin(const Header &header, std::string_view content);
  Status params(Intake &intake, std::string_view content);
  Status start_body(const Header &header);
  std::size_t body_bytes(std::string_view bytes);

  SessionHandler &handler_;
  SessionLimits limits_;
  std::vector<Intake> intakes_; // requests whose last STDIN has not come
  // inside a STDIN record:
  std::size_t body_left_ = 0;
  std::size_t padding_left_ = 0;
  std::uint16_t body_id_ = 0;
  bool body_wanted_ = false;
};

} // namespace tqfpm::fcgi
