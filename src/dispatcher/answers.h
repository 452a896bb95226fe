// Answers that no worker gives, and what is decided about a request before one may.
#pragma once

#include <cstdint>
#include <string>
#include <utility>

#include "status/scoreboard.h"

namespace tqfpm::dispatcher {

struct LocalAnswer {
  int status = 200;
  std::string head;        // header lines, each with CRLF
  std::string body;        // not sent for HEAD
  std::string words;       // for STDERR: what PHP would have said to the web server
  const char *reason = ""; // for the access log
  status::Metric metric = status::Metric::requests;
};

enum class AnswerName : std::uint8_t {
#define ANSWER(name, code, why, counted) name,
#include "dispatcher/answers.def"
#undef ANSWER
};

// The page of an error, with the request's identity on it.
LocalAnswer error_page(AnswerName name, const std::string &tag);
// Header lines that keep caches from storing an answer.
extern const char kNoCache[];

// What is to become of a request.
struct Verdict {
  enum class Kind : std::uint8_t {
    kRun,    // a worker may have it
    kWait,   // that is being found out: the same question is answered later
    kAnswer, // it gets `answer`
  };
  Kind kind = Kind::kRun;
  LocalAnswer answer;

  static Verdict run() { return {}; }
  static Verdict wait() { return {Kind::kWait, {}}; }
  static Verdict local(LocalAnswer answer) { return {Kind::kAnswer, std::move(answer)}; }
};

} // namespace tqfpm::dispatcher
