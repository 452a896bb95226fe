// fcgi::scan_response and php::rewrite_stderr: whole records with the client's id, whatever a worker sends.
#include <vector>

#include "fcgi/response.h"
#include "input.h"
#include "php/messages.h"

namespace {

using namespace tqfpm;
using fcgi::RecordType;

constexpr std::uint8_t kFinished = 200;
constexpr std::size_t kLongest = 60;

// All records of `bytes`, which are whole, are of this id and of the kinds that go to a web server.
std::string check_records(std::string_view bytes, std::uint16_t id, bool ended) {
  std::string stdout_bytes;
  bool end = false;
  while (!bytes.empty()) {
    FUZZ_CHECK(bytes.size() >= fcgi::kHeaderLength && !end);
    const fcgi::Header header = fcgi::decode_header(bytes);
    FUZZ_CHECK(header.version == fcgi::kVersion && header.id == id && header.record_length() <= bytes.size());
    end = header.type == RecordType::kEndRequest;
    FUZZ_CHECK(end || header.type == RecordType::kStdout || header.type == RecordType::kStderr);
    if (header.type == RecordType::kStdout)
      stdout_bytes += bytes.substr(fcgi::kHeaderLength, header.content_length);
    bytes.remove_prefix(header.record_length());
  }
  FUZZ_CHECK(end == ended);
  return stdout_bytes;
}

struct Answer {
  std::string records;
  std::string rewritten;
  std::string log;
  bool ended = false;
  bool finished = false;
  bool malformed = false;
};

// Takes an answer in pieces as the dispatcher does.
class Reader {
public:
  explicit Reader(std::uint16_t id) : id_(id) {}
  void feed(std::string_view piece) {
    waiting_ += piece;
    if (answer_.ended || answer_.finished || answer_.malformed)
      return;
    const fcgi::ResponseScan scan = fcgi::scan_response(waiting_.data(), waiting_.size(), id_, kFinished);
    FUZZ_CHECK(scan.consumed <= waiting_.size());
    const std::string records = waiting_.substr(0, scan.consumed);
    waiting_.erase(0, scan.consumed);
    const std::string output = check_records(records, id_, scan.ended);
    FUZZ_CHECK(output.size() == scan.body_bytes);
    FUZZ_CHECK(scan.first_stdout.size() <= scan.body_bytes);
    answer_.records += records;
    const std::string rewritten = php::rewrite_stderr(records, messages_, [this](std::string_view line, bool first) {
      FUZZ_CHECK(line.size() <= kLongest);
      answer_.log += first ? "first " : "more ";
      answer_.log.append(line).push_back('\n');
    });
    FUZZ_CHECK(check_records(rewritten, id_, scan.ended) == output);
    answer_.rewritten += rewritten;
    answer_.ended = scan.ended;
    answer_.finished = scan.finished;
    answer_.malformed = scan.malformed;
  }
  [[nodiscard]] const Answer &answer() const { return answer_; }

private:
  std::uint16_t id_;
  php::PhpMessages messages_{kLongest};
  std::string waiting_;
  Answer answer_;
};

// The STDERR text that a web server joins from the records.
std::string stderr_of(std::string_view records) {
  std::string out;
  while (!records.empty()) {
    const fcgi::Header header = fcgi::decode_header(records);
    if (header.type == RecordType::kStderr)
      out += records.substr(fcgi::kHeaderLength, header.content_length);
    records.remove_prefix(header.record_length());
  }
  return out;
}

} // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t *data, std::size_t size) {
  fuzz::Input input(data, size);
  const auto id = static_cast<std::uint16_t>(input.below(65536));
  const std::size_t step = 1 + input.below(64);
  const std::string_view all = input.rest();
  Reader whole(id);
  Reader pieces(id);
  whole.feed(all);
  for (std::size_t at = 0; at < all.size(); at += step)
    pieces.feed(all.substr(at, step));
  const Answer &a = whole.answer();
  const Answer &b = pieces.answer();
  FUZZ_CHECK(a.records == b.records && a.log == b.log);
  FUZZ_CHECK(stderr_of(a.rewritten) == stderr_of(b.rewritten));
  FUZZ_CHECK(a.ended == b.ended && a.finished == b.finished && a.malformed == b.malformed);
  const int status = fcgi::response_status(all);
  FUZZ_CHECK(status >= 0 && status <= 999);
  return 0;
}
