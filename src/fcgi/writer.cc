#include "fcgi/writer.h"

#include <algorithm>

#include "fcgi/params.h"

namespace tqfpm::fcgi {

void append_header(std::string &out, RecordType type, std::uint16_t id, std::size_t content_length) {
  const char header[kHeaderLength] = {static_cast<char>(kVersion),
                                      static_cast<char>(type),
                                      static_cast<char>(id >> 8),
                                      static_cast<char>(id & 0xff),
                                      static_cast<char>(content_length >> 8),
                                      static_cast<char>(content_length & 0xff),
                                      0,
                                      0};
  out.append(header, sizeof header);
}

void append_stream(std::string &out, RecordType type, std::uint16_t id, std::string_view data) {
  while (!data.empty()) {
    const std::string_view piece = data.substr(0, kMaxContent);
    append_header(out, type, id, piece.size());
    out.append(piece);
    data.remove_prefix(piece.size());
  }
}

void append_stream_end(std::string &out, RecordType type, std::uint16_t id) {
  append_header(out, type, id, 0);
}

void append_begin_request(std::string &out, std::uint16_t id, Role role, bool keep_connection) {
  append_header(out, RecordType::kBeginRequest, id, 8);
  const auto number = static_cast<std::uint16_t>(role);
  const char body[8] = {static_cast<char>(number >> 8),
                        static_cast<char>(number & 0xff),
                        static_cast<char>(keep_connection ? kKeepConnection : 0),
                        0,
                        0,
                        0,
                        0,
                        0};
  out.append(body, sizeof body);
}

void append_end_request(std::string &out, std::uint16_t id, std::uint32_t app_status, ProtocolStatus status) {
  append_header(out, RecordType::kEndRequest, id, 8);
  const char body[8] = {static_cast<char>(app_status >> 24),
                        static_cast<char>(app_status >> 16 & 0xff),
                        static_cast<char>(app_status >> 8 & 0xff),
                        static_cast<char>(app_status & 0xff),
                        static_cast<char>(status),
                        0,
                        0,
                        0};
  out.append(body, sizeof body);
}

void append_unknown_type(std::string &out, std::uint8_t type) {
  append_header(out, RecordType::kUnknownType, 0, 8);
  const char body[8] = {static_cast<char>(type), 0, 0, 0, 0, 0, 0, 0};
  out.append(body, sizeof body);
}

void append_params(std::string &out, std::uint16_t id, std::string_view content, std::string_view more_pairs) {
  if (content.size() <= kMaxContent) {
    append_stream(out, RecordType::kParams, id, content);
  } else {
    PairReader reader(content);
    const char *start = content.data();
    std::size_t length = 0;
    while (const auto pair = reader.next()) {
      if (length + pair->encoded.size() > kMaxContent) {
        append_stream(out, RecordType::kParams, id, std::string_view(start, length));
        start = pair->encoded.data();
        length = 0;
      }
      length += pair->encoded.size();
    }
    append_stream(out, RecordType::kParams, id, std::string_view(start, length));
  }
  append_stream(out, RecordType::kParams, id, more_pairs);
  append_stream_end(out, RecordType::kParams, id);
}

void append_values_result(std::string &out, std::string_view asked, std::size_t max_connections,
                          std::size_t max_requests) {
  std::string content;
  PairReader reader(asked);
  while (const auto pair = reader.next()) {
    if (pair->name == "FCGI_MAX_CONNS")
      append_pair(content, pair->name, std::to_string(max_connections));
    else if (pair->name == "FCGI_MAX_REQS")
      append_pair(content, pair->name, std::to_string(max_requests));
    else if (pair->name == "FCGI_MPXS_CONNS")
      append_pair(content, pair->name, "0"); // multiplexing works, but what php-fpm says is what clients know
  }
  content.resize(std::min(content.size(), kMaxContent));
  append_header(out, RecordType::kGetValuesResult, 0, content.size());
  out.append(content);
}

} // namespace tqfpm::fcgi
