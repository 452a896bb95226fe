// The FastCGI 1.0 wire format (fastcgi.com specification, sections 3.3, 5 and 8): constants and the record header.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

namespace tqfpm::fcgi {

inline constexpr std::uint8_t kVersion = 1;
inline constexpr std::size_t kHeaderLength = 8;
inline constexpr std::size_t kMaxContent = 65535;
inline constexpr std::size_t kMaxRecord = kHeaderLength + kMaxContent + 255;

enum class RecordType : std::uint8_t {
  kBeginRequest = 1,
  kAbortRequest = 2,
  kEndRequest = 3,
  kParams = 4,
  kStdin = 5,
  kStdout = 6,
  kStderr = 7,
  kData = 8,
  kGetValues = 9,
  kGetValuesResult = 10,
  kUnknownType = 11,
};

enum class Role : std::uint16_t { kResponder = 1, kAuthorizer = 2, kFilter = 3 };
inline constexpr std::uint8_t kKeepConnection = 1;

enum class ProtocolStatus : std::uint8_t {
  kRequestComplete = 0,
  kCantMultiplex = 1,
  kOverloaded = 2,
  kUnknownRole = 3
};

// Header of one record, decoded.
struct Header {
  std::uint8_t version = kVersion;
  RecordType type = RecordType::kUnknownType;
  std::uint16_t id = 0;
  std::uint16_t content_length = 0;
  std::uint8_t padding_length = 0;

  [[nodiscard]] std::size_t record_length() const { return kHeaderLength + content_length + padding_length; }
};

inline std::uint8_t byte_at(std::string_view bytes, std::size_t index) {
  return static_cast<std::uint8_t>(bytes[index]);
}
inline std::uint16_t u16_at(std::string_view bytes, std::size_t index) {
  return static_cast<std::uint16_t>(byte_at(bytes, index) << 8 | byte_at(bytes, index + 1));
}

// Decodes the header at the start of `bytes`, which must hold kHeaderLength bytes.
inline Header decode_header(std::string_view bytes) {
  return Header{byte_at(bytes, 0), static_cast<RecordType>(byte_at(bytes, 1)), u16_at(bytes, 2), u16_at(bytes, 4),
                byte_at(bytes, 6)};
}

} // namespace tqfpm::fcgi
