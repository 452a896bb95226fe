#include "dispatcher/local_pages.h"

#include "php/basic_user.h"
#include "status/render.h"

namespace tqfpm::dispatcher {

namespace {

struct ErrorText {
  int status;
  const char *title;
};
constexpr ErrorText kErrors[] = {
    {400, "Bad Request"},           {403, "Forbidden"},         {404, "Not Found"},
    {411, "Length Required"},       {413, "Payload Too Large"}, {431, "Request Header Fields Too Large"},
    {500, "Internal Server Error"}, {502, "Bad Gateway"},       {503, "Service Unavailable"},
    {504, "Gateway Timeout"},
};

const char *title_of(int status) {
  for (const ErrorText &each : kErrors) {
    if (each.status == status)
      return each.title;
  }
  return "Error";
}

constexpr char kNoCache[] = "Expires: Thu, 01 Jan 1970 00:00:00 GMT\r\nCache-Control: no-cache, no-store, "
                            "must-revalidate, max-age=0\r\n";

} // namespace

LocalAnswer error_page(int status, const char *reason, const std::string &tag) {
  LocalAnswer answer;
  answer.status = status;
  answer.reason = reason;
  const std::string title = std::to_string(status) + " " + title_of(status);
  answer.head = "Status: " + title + "\r\nContent-Type: text/html; charset=utf-8\r\n";
  if (status == 503)
    answer.head += "Retry-After: 1\r\n";
  answer.body = "<!DOCTYPE html>\n<html><head><title>" + title + "</title></head><body><h1>" + title +
                "</h1><p>Request " + tag + ": " + reason + "</p></body></html>\n";
  return answer;
}

std::string_view request_path(const Request &request) {
  std::string_view path = request.params.get("SCRIPT_NAME");
  if (path.empty()) {
    path = request.params.get("REQUEST_URI");
    path = path.substr(0, path.find('?'));
  }
  return path;
}

std::string request_user(const Request &request) {
  return php::basic_user(request.params.get("HTTP_AUTHORIZATION"));
}

LocalAnswer ping_page(const config::PoolConfig &pool) {
  LocalAnswer answer;
  answer.head = std::string("Content-type: text/plain;charset=UTF-8\r\n") + kNoCache;
  answer.body = pool.ping_response;
  return answer;
}

LocalAnswer status_page(const status::PoolState &state, std::string_view query) {
  const status::Page page = status::render_status(state, query);
  LocalAnswer answer;
  answer.head = kNoCache + page.content_type + "\r\n";
  answer.body = page.body;
  return answer;
}

} // namespace tqfpm::dispatcher
