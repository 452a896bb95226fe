// One FastCGI request on its way through the dispatcher.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "base/clock.h"
#include "fcgi/format.h"
#include "fcgi/params.h"
#include "php/messages.h"
#include "pool/request_queue.h"
#include "pool/worker_table.h"

namespace tqfpm::dispatcher {

class Client;

enum class RequestState : std::uint8_t {
  kReceiving, // its body is coming
  kQueued,    // waits for a worker
  kRunning,   // a worker has it
  kAnswered,  // END_REQUEST has been sent
};

// Owned by its Client; a worker that has it holds a pointer that is taken back before the request goes.
struct Request {
  pool::RequestKey key = 0;
  Client *client = nullptr;
  std::uint16_t id = 0; // on the client's connection
  fcgi::Role role = fcgi::Role::kResponder;
  bool keep = false; // FCGI_KEEP_CONN
  RequestState state = RequestState::kReceiving;
  fcgi::Params params;

  std::string body;                // STDIN records that the worker has not got yet
  std::uint64_t body_received = 0; // bytes of content taken from the client
  std::uint64_t body_expected = 0; // CONTENT_LENGTH
  bool has_length = false;         // CONTENT_LENGTH was sent
  bool body_complete = false;

  pool::VariantNumber variant = 0; // the PHP settings that it needs
  pool::WorkerId worker{};
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

} // namespace tqfpm::dispatcher
