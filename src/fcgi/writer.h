// Builds FastCGI records by appending to a string.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "fcgi/format.h"

namespace tqfpm::fcgi {

void append_header(std::string &out, RecordType type, std::uint16_t id, std::size_t content_length);
// One stream's data in as many records as it needs; nothing for empty data (an empty record ends a stream).
void append_stream(std::string &out, RecordType type, std::uint16_t id, std::string_view data);
void append_stream_end(std::string &out, RecordType type, std::uint16_t id);
void append_begin_request(std::string &out, std::uint16_t id, Role role, bool keep_connection);
void append_end_request(std::string &out, std::uint16_t id, std::uint32_t app_status, ProtocolStatus status);
void append_unknown_type(std::string &out, std::uint8_t type);
// The PARAMS stream with its end: records are cut between pairs, since php-cgi decodes record by record.
// `content` must have passed Params::assign().
void append_params(std::string &out, std::uint16_t id, std::string_view content, std::string_view more_pairs);
// The answer to FCGI_GET_VALUES with the content `asked`.
void append_values_result(std::string &out, std::string_view asked, std::size_t max_connections,
                          std::size_t max_requests);

} // namespace tqfpm::fcgi
