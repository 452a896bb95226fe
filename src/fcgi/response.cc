#include "fcgi/response.h"

#include <strings.h>

namespace tqfpm::fcgi {

namespace {
void set_id(char *header, std::uint16_t id) {
  header[2] = static_cast<char>(id >> 8);
  header[3] = static_cast<char>(id & 0xff);
}
} // namespace

ResponseScan scan_response(char *bytes, std::size_t length, std::uint16_t client_id, std::uint8_t finished) {
  ResponseScan scan;
  const std::string_view all(bytes, length);
  while (length - scan.consumed >= kHeaderLength) {
    const Header header = decode_header(all.substr(scan.consumed));
    if (finished != 0 && header.type == static_cast<RecordType>(finished) && header.record_length() == kHeaderLength) {
      scan.finished = true;
      return scan;
    }
    const bool end = header.type == RecordType::kEndRequest;
    const bool output = header.type == RecordType::kStdout || header.type == RecordType::kStderr;
    if (header.version != kVersion || header.id != 1 || !(end || output) || (end && header.content_length != 8)) {
      scan.malformed = true;
      return scan;
    }
    if (length - scan.consumed < header.record_length())
      return scan;
    const std::string_view content = all.substr(scan.consumed + kHeaderLength, header.content_length);
    if (client_id != 1)
      set_id(bytes + scan.consumed, client_id);
    if (end) {
      scan.consumed += header.record_length();
      scan.ended = true;
      return scan;
    }
    if (header.type == RecordType::kStdout) {
      if (scan.first_stdout.empty())
        scan.first_stdout = content;
      scan.body_bytes += content.size();
    } else if (!content.empty()) {
      scan.stderr_seen = true;
    }
    scan.consumed += header.record_length();
  }
  return scan;
}

int response_status(std::string_view head) {
  constexpr std::string_view kName = "Status:";
  if (head.size() < kName.size() + 3 || strncasecmp(head.data(), kName.data(), kName.size()) != 0)
    return 200;
  std::size_t at = kName.size();
  while (at < head.size() && head[at] == ' ')
    ++at;
  int status = 0;
  int digits = 0;
  for (; at < head.size() && digits < 3 && head[at] >= '0' && head[at] <= '9'; ++at, ++digits)
    status = status * 10 + (head[at] - '0');
  return digits == 3 ? status : 200;
}

} // namespace tqfpm::fcgi
