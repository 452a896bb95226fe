// Writing records (fcgi/writer) and reading a worker's (fcgi/response).
#include <gtest/gtest.h>

#include "fcgi/params.h"
#include "fcgi/response.h"
#include "fcgi/writer.h"
#include "php/messages.h"

namespace tqfpm::fcgi {
namespace {

TEST(Writer, StreamsAreCutIntoRecords) {
  std::string out;
  append_stream(out, RecordType::kStdout, 0x1234, std::string(65535 + 10, 'x'));
  ASSERT_EQ(out.size(), 65535 + 10 + 2 * kHeaderLength);
  const Header first = decode_header(out);
  EXPECT_EQ(first.version, 1);
  EXPECT_EQ(first.id, 0x1234);
  EXPECT_EQ(first.content_length, 65535);
  EXPECT_EQ(decode_header(std::string_view(out).substr(first.record_length())).content_length, 10);
  out.clear();
  append_stream(out, RecordType::kStdout, 1, "");
  EXPECT_TRUE(out.empty());
}

// php-cgi decodes each PARAMS record by itself: a pair that spans two would be lost.
TEST(Writer, ParametersAreCutBetweenPairs) {
  std::string content;
  for (int i = 0; i < 30; ++i)
    append_pair(content, "NAME" + std::to_string(i), std::string(10000, static_cast<char>('a' + i % 26)));
  std::string more;
  append_pair(more, "MORE", "1");
  std::string out;
  append_params(out, 1, content, more);
  std::string together;
  std::string_view rest(out);
  while (true) {
    const Header header = decode_header(rest);
    ASSERT_EQ(header.type, RecordType::kParams);
    if (header.content_length == 0)
      break;
    const std::string_view piece = rest.substr(kHeaderLength, header.content_length);
    PairReader reader(piece);
    while (reader.next()) {
    }
    EXPECT_FALSE(reader.malformed());
    together += piece;
    rest.remove_prefix(header.record_length());
  }
  EXPECT_EQ(together, content + more);
  EXPECT_EQ(rest.size(), kHeaderLength);
}

std::string answer() {
  std::string out;
  append_stream(out, RecordType::kStdout, 1, "Status: 404 Not Found\r\n\r\nbody");
  append_stream(out, RecordType::kStderr, 1, "oops");
  append_end_request(out, 1, 3, ProtocolStatus::kRequestComplete);
  return out;
}

TEST(Response, WholeAnswerGetsTheClientsId) {
  std::string bytes = answer();
  const ResponseScan scan = scan_response(bytes.data(), bytes.size(), 0xabcd);
  EXPECT_EQ(scan.consumed, bytes.size());
  EXPECT_TRUE(scan.ended);
  EXPECT_TRUE(scan.stderr_seen);
  EXPECT_EQ(scan.body_bytes, 29U);
  EXPECT_EQ(response_status(scan.first_stdout), 404);
  EXPECT_EQ(decode_header(bytes).id, 0xabcd);
  EXPECT_EQ(decode_header(std::string_view(bytes).substr(bytes.size() - 16)).id, 0xabcd);
}

TEST(Response, OnlyWholeRecordsAreTaken) {
  const std::string whole = answer();
  std::size_t taken_before = 0;
  for (std::size_t length = 0; length <= whole.size(); ++length) {
    std::string bytes = whole.substr(0, length);
    const ResponseScan scan = scan_response(bytes.data(), bytes.size(), 1);
    EXPECT_FALSE(scan.malformed);
    EXPECT_LE(scan.consumed, length);
    EXPECT_GE(scan.consumed, taken_before);
    EXPECT_EQ(scan.ended, length == whole.size());
    taken_before = scan.consumed;
  }
}

TEST(Response, StopsAtTheEndOfTheRequest) {
  std::string bytes = answer() + "more";
  EXPECT_EQ(scan_response(bytes.data(), bytes.size(), 1).consumed, bytes.size() - 4);
}

TEST(Response, WhatPhpCgiNeverSendsIsMalformed) {
  for (const auto &[at, byte] : {std::pair<std::size_t, char>{0, 2}, {1, 5}, {3, 2}}) {
    std::string bytes = answer();
    bytes[at] = byte;
    EXPECT_TRUE(scan_response(bytes.data(), bytes.size(), 1).malformed) << at;
  }
}

TEST(Response, Status) {
  EXPECT_EQ(response_status("Status: 500 Internal Server Error\r\n"), 500);
  EXPECT_EQ(response_status("status:404\r\n"), 404);
  EXPECT_EQ(response_status("Content-type: text/html\r\n"), 200);
  EXPECT_EQ(response_status("Status: x"), 200);
  EXPECT_EQ(response_status(""), 200);
}

// What the web server gets and, line by line, what the log gets.
struct Heard {
  explicit Heard(std::size_t longest) : messages(longest) {}
  void feed(std::string_view content) { sent += messages.feed(content, note()); }
  void end() { sent += messages.end(note()); }
  php::PhpMessages::OnLine note() {
    return [this](std::string_view line, bool first) { log += (first ? "*" : " ") + std::string(line) + "|"; };
  }
  php::PhpMessages messages;
  std::string sent, log;
};

TEST(PhpMessages, AreSeparatedAsPhpFpmDoesWhateverThePieces) {
  const std::string content = "one\nPHP Fatal error:  Uncaught Error: z in a.php:3\nStack trace:\n#0 {main}\n  thrown "
                              "in a.php on line 3\nlast\n";
  for (std::size_t size = 1; size <= content.size(); ++size) {
    Heard heard(1000);
    for (std::size_t at = 0; at < content.size(); at += size)
      heard.feed(std::string_view(content).substr(at, size));
    heard.end();
    EXPECT_EQ(heard.sent,
              "PHP message: one; PHP message: PHP Fatal error:  Uncaught Error: z in a.php:3\nStack trace:\n"
              "#0 {main}\n  thrown in a.php on line 3; PHP message: last");
    EXPECT_EQ(heard.log,
              "*PHP message: one|*PHP message: PHP Fatal error:  Uncaught Error: z in a.php:3| Stack trace:| "
              "#0 {main}|   thrown in a.php on line 3|*PHP message: last|");
  }
}

TEST(PhpMessages, LongOnesAreCut) {
  const std::string words = "PHP message: ";
  for (const std::size_t piece : {1U, 7U, 100U}) {
    Heard heard(40);
    const std::string content =
        std::string(27, 'a') + "\n" + std::string(28, 'b') + "\n" + std::string(90, 'c') + "\nd";
    for (std::size_t at = 0; at < content.size(); at += piece)
      heard.feed(std::string_view(content).substr(at, piece));
    heard.end();
    EXPECT_EQ(heard.sent, words + std::string(27, 'a') + "; " + words + std::string(24, 'b') + "...; " + words +
                              std::string(24, 'c') + "...; " + words + "d");
  }
}

TEST(PhpMessages, RecordsKeepTheirOrder) {
  std::string records;
  append_stream(records, RecordType::kStderr, 3, "half");
  append_stream(records, RecordType::kStdout, 3, "body");
  append_end_request(records, 3, 0, ProtocolStatus::kRequestComplete);
  std::string expected;
  append_stream(expected, RecordType::kStdout, 3, "body");
  append_stream(expected, RecordType::kStderr, 3, "PHP message: half");
  append_end_request(expected, 3, 0, ProtocolStatus::kRequestComplete);
  php::PhpMessages messages(1000);
  EXPECT_EQ(php::rewrite_stderr(records, messages, [](std::string_view, bool) {}), expected);
}

TEST(ScanResponse, ARecordOfOurOwnEndsTheAnswer) {
  std::string bytes;
  append_stream(bytes, RecordType::kStdout, 1, "hello");
  const std::size_t before = bytes.size();
  append_header(bytes, static_cast<RecordType>(201), 1, 0);
  append_stream(bytes, RecordType::kStdout, 1, "late");
  const ResponseScan scan = scan_response(bytes.data(), bytes.size(), 7, 201);
  EXPECT_TRUE(scan.finished);
  EXPECT_FALSE(scan.malformed);
  EXPECT_EQ(scan.consumed, before);
  EXPECT_TRUE(scan_response(bytes.data() + before, bytes.size() - before, 1).malformed); // nobody expects it
}

} // namespace
} // namespace tqfpm::fcgi
