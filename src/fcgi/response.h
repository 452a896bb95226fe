// Reads the records that a worker sends and prepares them for the client.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

#include "fcgi/format.h"

namespace tqfpm::fcgi {

// What one look at a worker's bytes found.
struct ResponseScan {
  std::size_t consumed = 0;      // bytes of whole records at the front, ids set for the client, END_REQUEST included
  std::size_t body_bytes = 0;    // STDOUT content in them
  std::string_view first_stdout; // content of the first STDOUT record, if any
  bool stderr_seen = false;      // they have STDERR content
  bool ended = false;            // END_REQUEST seen; nothing may follow it
  bool finished = false;         // a `finished` record begins after `consumed`: the answer is complete, PHP goes on
  bool malformed = false;        // not what php-cgi sends: version, type or request id are wrong
};

// Looks at `bytes` from a worker (request id 1), sets each record's id to `client_id` in place, and stops after
// END_REQUEST or at the first incomplete record. Records are never split, so that any END_REQUEST of our own may
// follow.
// A record of type `finished`, without content, is one that a script's fastcgi_finish_request() has sent; 0: there is
// none.
ResponseScan scan_response(char *bytes, std::size_t length, std::uint16_t client_id, std::uint8_t finished = 0);

// The HTTP status of a CGI response that begins with `head`: the number in a leading "Status:" header, else 200.
int response_status(std::string_view head);

} // namespace tqfpm::fcgi
