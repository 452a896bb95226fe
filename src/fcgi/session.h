// The server side of one FastCGI connection: bytes in, one thing at a time out. It checks the protocol and knows which
// requests are being received, and which ids have an answer to come; what happens with them is the caller's.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "fcgi/format.h"

namespace tqfpm::fcgi {

// What the next bytes of a connection mean.
struct Arrival {
  enum class Kind : std::uint8_t {
    kNothing,   // more bytes are needed
    kWait,      // BEGIN_REQUEST for an id whose former request has no answer yet: ask again after answered()
    kParams,    // the parameters of request `id` are complete: `content`; with too_long there were too many
    kBody,      // a piece of its body: `data`
    kBodyEnd,   // the body is complete; an authorizer has none, and no end of it is told
    kAbort,     // FCGI_ABORT_REQUEST for a request whose parameters are known
    kReply,     // `content` goes to the peer: the answer to a management record, or a refusal
    kMalformed, // the peer does not speak FastCGI: `content` says why; close the connection
  };
  Kind kind = Kind::kNothing;
  std::uint16_t id = 0;
  Role role = Role::kResponder;
  bool keep = false; // FCGI_KEEP_CONN; kReply: it does not end the connection
  bool too_long = false;
  std::string_view data; // in the bytes given
  std::string content;
};

struct SessionLimits {
  std::size_t max_params = 1U << 20; // bytes of one request's PARAMS stream
  std::size_t max_held = 4U << 20;   // bytes of PARAMS of all requests that are being received
  std::size_t max_requests = 256;    // on one connection at the same time
  std::size_t advertised = 1;        // FCGI_MAX_CONNS and FCGI_MAX_REQS
};

class Session {
public:
  explicit Session(SessionLimits limits) : limits_(limits) {}

  // Takes the next thing off the front of `bytes`; what is left is offered again, with what has come since. Body bytes
  // are passed on before their record is complete. With kNothing and kWait the rest of `bytes` is kept by the caller:
  // less than a record.
  Arrival next(std::string_view &bytes);
  // The request has its answer: its id can be used again, what still comes for it is dropped.
  void answered(std::uint16_t id);
  // Is a request in the middle of its parameters?
  [[nodiscard]] bool in_params() const;
  // Bytes of parameters that are kept for requests in the middle of them.
  [[nodiscard]] std::size_t held() const { return held_; }
  // Inside of a record of a body, or of its padding?
  [[nodiscard]] bool in_record() const { return body_left_ + padding_left_ > 0; }

private:
  enum class Stage : std::uint8_t { kParams, kBody, kReceived };
  struct Intake {
    std::uint16_t id = 0;
    Role role = Role::kResponder;
    bool keep = false;
    Stage stage = Stage::kParams;
    std::string params;
  };
  Intake *find(std::uint16_t id);
  Arrival body(std::string_view &bytes);
  Arrival record(const Header &header, std::string_view content);
  Arrival begin(const Header &header, std::string_view content);
  Arrival params(Intake &intake, std::string_view content);
  Arrival params_done(Intake &intake, bool too_long);
  Arrival end_of_body(std::uint16_t id);
  Arrival abort(std::uint16_t id);
  Arrival management(const Header &header, std::string_view content) const;

  SessionLimits limits_;
  std::vector<Intake> intakes_; // requests without an answer
  std::size_t held_ = 0;        // bytes of params in intakes_
  std::size_t body_left_ = 0;
  std::size_t padding_left_ = 0;
  std::uint16_t body_id_ = 0;
  bool body_wanted_ = false;
};

} // namespace tqfpm::fcgi
