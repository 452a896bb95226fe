// What PHP logs during a request: php-cgi sends it as FCGI_STDERR, one message after the other, each with a newline;
// web servers and their logs know it from php-fpm as "PHP message: A; PHP message: B".
#pragma once

#include <cstddef>
#include <functional>
#include <string>
#include <string_view>

namespace tqfpm::php {

class PhpMessages {
public:
  // A line for the error log; the first one of a message, or one that goes on.
  using OnLine = std::function<void(std::string_view line, bool first)>;
  // `longest`: bytes that a message may have with the words in front; a longer one is cut and ends in "...".
  explicit PhpMessages(std::size_t longest) : longest_(longest) {}

  // Takes STDERR content as it comes from php-cgi and returns what the web server gets.
  std::string feed(std::string_view content, const OnLine &on_line);
  // The request has ended.
  std::string end(const OnLine &on_line);

private:
  void line(std::string_view text, std::string &out, const OnLine &on_line);
  std::size_t longest_;
  std::string partial_;   // a line whose end has not come
  std::size_t used_ = 0;  // bytes of the message at hand
  bool skipping_ = false; // the rest of a line that was longer than any message may be
  bool cut_ = false;      // the message at hand is complete with "..."
  bool any_ = false;      // a message has been sent
};

// Lines of a message that PHP writes over several: the stack trace of an uncaught exception.
bool continues_message(std::string_view line);

// `records` (whole ones) with STDERR content as PhpMessages has it; what is left comes before an END_REQUEST.
std::string rewrite_stderr(std::string_view records, PhpMessages &messages, const PhpMessages::OnLine &on_line);

} // namespace tqfpm::php
