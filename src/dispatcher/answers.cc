#include "dispatcher/answers.h"

namespace tqfpm::dispatcher {

namespace {

struct AnswerRow {
  const char *reason;
  int status;
  status::Metric metric;
};
constexpr AnswerRow kAnswers[] = {
#define ANSWER(name, code, why, counted) {why, code, status::Metric::counted},
#include "dispatcher/answers.def"
#undef ANSWER
};

// Of HTTP (RFC 9110, RFC 6585).
const char *title_of(int status) {
  switch (status) {
  case 403:
    return "Forbidden";
  case 404:
    return "Not Found";
  case 408:
    return "Request Timeout";
  case 411:
    return "Length Required";
  case 431:
    return "Request Header Fields Too Large";
  case 500:
    return "Internal Server Error";
  case 502:
    return "Bad Gateway";
  case 503:
    return "Service Unavailable";
  case 504:
    return "Gateway Timeout";
  default:
    return "Error";
  }
}

} // namespace

const char kNoCache[] = "Expires: Thu, 01 Jan 1970 00:00:00 GMT\r\nCache-Control: no-cache, no-store, "
                        "must-revalidate, max-age=0\r\n";

LocalAnswer error_page(AnswerName name, const std::string &tag) {
  const AnswerRow &row = kAnswers[static_cast<std::size_t>(name)];
  LocalAnswer answer;
  answer.status = row.status;
  answer.reason = row.reason;
  answer.metric = row.metric;
  const std::string title = std::to_string(row.status) + " " + title_of(row.status);
  answer.head = "Status: " + title + "\r\nContent-Type: text/html; charset=utf-8\r\n";
  if (row.status == 503)
    answer.head += "Retry-After: 1\r\n";
  answer.body = "<!DOCTYPE html>\n<html><head><title>" + title + "</title></head><body><h1>" + title +
                "</h1><p>Request " + tag + ": " + row.reason + "</p></body></html>\n";
  return answer;
}

} // namespace tqfpm::dispatcher
