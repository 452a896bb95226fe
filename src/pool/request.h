// One FastCGI request on its way through the dispatcher: facts that the client's side, the queue and the worker's side
// share. Nobody is called here; who changes what is said at each field.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "base/clock.h"
#include "fcgi/format.h"
#include "fcgi/params.h"
#include "php/messages.h"
#include "pool/request_queue.h"
#include "pool/worker_table.h"

namespace tqfpm::pool {

//            params     answered by ourselves
//   (client) ------> kNew ------------------------------+
//                     |  wants a worker                 v
//                     v                               kEnded ---> destroyed by its client
//                 kReceiving --> kQueued --> kRunning --^
//                     ^             ^           |  no worker has seen it, or one more try
//                     +-------------+-----------+
//
// Whatever its state, a request ends exactly once: dispatcher/requests does it, nobody else.
enum class RequestState : std::uint8_t {
  kNew,       // its parameters are there, nobody has looked at them
  kReceiving, // it will need a worker: its body is coming, or its script is being looked for
  kQueued,    // waits for a worker
  kRunning,   // a worker has it
  kEnded,     // it has its answer, or nobody waits for one
};

// Owned by its client's connection; whoever else has a pointer gives it back when the request ends.
struct Request {
  RequestKey key = 0;
  std::uint64_t client = 0; // the connection that it came on
  std::string_view peer;    // the web server's address, "" for a Unix socket; lives as long as the client
  bool apart = false;       // it came on pm.status_listen
  std::uint16_t id = 0;     // FastCGI's, on the client's connection
  fcgi::Role role = fcgi::Role::kResponder;
  bool keep = false; // FCGI_KEEP_CONN
  RequestState state = RequestState::kNew;
  fcgi::Params params;
  bool too_many_params = false; // params are not all of them: it has to be refused

  // The client's side adds to the body, the worker's side takes all of it at once.
  std::string body;                // STDIN records (id 1) that no worker has got yet
  std::uint64_t body_received = 0; // bytes of content taken from the client
  std::uint64_t body_expected = 0; // CONTENT_LENGTH
  bool has_length = false;         // CONTENT_LENGTH was sent
  bool body_complete = false;      // `body` ends with the empty STDIN record, or that has been taken
  bool aborted = false;            // by FCGI_ABORT_REQUEST: it is owed an END_REQUEST
  bool gone = false;               // its client's connection has gone
  bool timed_out = false;          // its client has not sent the body in time

  // Its body has ended before CONTENT_LENGTH: PHP would wait for the rest.
  [[nodiscard]] bool body_is_short() const { return body_complete && has_length && body_received < body_expected; }

  VariantNumber variant = 0; // the PHP settings that it needs
  WorkerId worker{};         // kRunning: that has it
  int worker_pid = 0;
  TimePoint received{};  // parameters complete
  TimePoint submitted{}; // ready to run: the queue wait counts from here
  TimePoint started{};   // given to a worker
  std::string tag;       // the request's identity in logs

  std::unique_ptr<php::PhpMessages> messages; // none: PHP has logged nothing

  int status = 0;           // of the response, once known
  std::string head;         // of the response, if the access log asks for it
  std::uint64_t sent = 0;   // STDOUT content bytes
  bool retried = false;     // request_retry has been used
  bool slow_logged = false; // it is in the slow log
  bool looking = false;     // which script it runs is being found out
  bool answering = false;   // response bytes have gone to the client
  const char *reason = "";  // why tqfpm answered by itself
  // Used by its worker, as far as it was measured:
  double cpu_percent = 0;
  double user_percent = 0;
  double system_percent = 0;
  std::uint64_t memory = 0;
  Duration worker_age{};
  TimePoint first_byte{}; // of the response, from the worker
};

} // namespace tqfpm::pool
