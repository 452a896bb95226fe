#include "dispatcher/php_output.h"

#include "base/text.h"
#include "fcgi/writer.h"
#include "php/messages.h"
#include "sys/log.h"

namespace tqfpm::dispatcher {

namespace {

constexpr std::string_view kServerError = "Status: 500 Internal Server Error\r\n";
constexpr std::string_view kNotFound = "Status: 404 Not Found\r\n";
constexpr std::string_view kNoInput = "\r\n\r\nNo input file specified.\n";
constexpr std::string_view kErrorHeader = "fastcgi.error_header";

// php-fpm alone knows fastcgi.error_header: "HTTP/1.1 503 Sorry" becomes "Status: 503 Sorry".
std::string error_status(const config::PoolConfig &pool, const spawner::PhpOptions &options) {
  std::string value;
  for (const std::string &define : options.defines) {
    if (define.starts_with(std::string(kErrorHeader) + "="))
      value = define.substr(kErrorHeader.size() + 1);
  }
  for (const auto *settings : {&pool.php_value, &pool.php_admin_value}) {
    for (const config::KeyValue &each : *settings) {
      if (each.key == kErrorHeader)
        value = each.value;
    }
  }
  if (value.size() >= 2 && value.front() == value.back() && (value.front() == '"' || value.front() == '\''))
    value = value.substr(1, value.size() - 2);
  const std::size_t space = value.find(' ');
  if (!value.starts_with("HTTP/") || space == std::string::npos || value.find_first_of("\r\n") != std::string::npos)
    return "";
  return "Status: " + std::string(trim(value.substr(space))) + "\r\n";
}

} // namespace

PhpOutput::PhpOutput(const config::GlobalConfig &global, const config::PoolConfig &pool,
                     const spawner::PhpOptions &options)
    : pool_(pool), log_limit_(static_cast<std::size_t>(global.log_limit)),
      debugging_(global.log_level == config::LogLevel::kDebug), notices_(global.log_level <= config::LogLevel::kNotice),
      error_status_(error_status(pool, options)) {}

// As a worker of php-fpm's writes it to its standard error, and the master from there into the log.
void PhpOutput::log_message(const pool::Request &request, std::string_view line, bool first) const {
  if (!pool_.catch_workers_output || !notices_)
    return;
  std::string text(line);
  if (first)
    text.insert(0, debugging_ ? fmt::format("NOTICE: pid {}, ", request.worker_pid) : "NOTICE: ");
  const std::size_t room =
      sys::log().room(log_limit_, pool_.decorate_workers_output, pool_.name, request.worker_pid, "stderr");
  for (std::size_t at = 0; at < text.size() || at == 0; at += room) {
    const std::string_view piece = std::string_view(text).substr(at, room);
    if (pool_.decorate_workers_output)
      sys::log().said(pool_.name, request.worker_pid, "stderr", piece);
    else
      sys::log().plain(pool_.name, request.worker_pid, "stderr", piece);
  }
}

// What stands for the first record of STDOUT; "" if that stays.
std::string PhpOutput::replacement(std::string_view first_stdout, bool &unknown_script) const {
  if (first_stdout.starts_with(kNotFound) && first_stdout.ends_with(kNoInput)) {
    unknown_script = true;
    return std::string(first_stdout.substr(0, first_stdout.size() - kNoInput.size())) + "\r\n\r\nFile not found.\n";
  }
  if (!error_status_.empty() && first_stdout.starts_with(kServerError))
    return error_status_ + std::string(first_stdout.substr(kServerError.size()));
  return "";
}

std::string_view PhpOutput::adapt(pool::Request &request, std::string_view records, const fcgi::ResponseScan &scan,
                                  std::string &room) const {
  std::string replaced;
  if (request.status == 0 && !scan.first_stdout.empty()) {
    bool unknown_script = false;
    const std::string other = replacement(scan.first_stdout, unknown_script);
    if (!other.empty()) {
      request.status = fcgi::response_status(other);
      const auto at = static_cast<std::size_t>(scan.first_stdout.data() - records.data());
      const fcgi::Header header = fcgi::decode_header(records.substr(at - fcgi::kHeaderLength));
      if (unknown_script)
        fcgi::append_stream(replaced, fcgi::RecordType::kStderr, request.id, "Primary script unknown");
      replaced += records.substr(0, at - fcgi::kHeaderLength);
      fcgi::append_stream(replaced, fcgi::RecordType::kStdout, request.id, other);
      replaced += records.substr(at - fcgi::kHeaderLength + header.record_length());
      if (unknown_script) { // and PHP has said nothing else
        room = std::move(replaced);
        return room;
      }
      records = replaced;
    }
  }
  if (!scan.stderr_seen && request.messages == nullptr) {
    if (!replaced.empty()) {
      room = std::move(replaced);
      return room;
    }
    return records;
  }
  if (request.messages == nullptr) {
    constexpr std::string_view kOwnWords = "NOTICE: \n"; // of php-fpm's line, which log_limit bounds
    request.messages = std::make_unique<php::PhpMessages>(log_limit_ - kOwnWords.size());
  }
  room = php::rewrite_stderr(records, *request.messages,
                             [&](std::string_view line, bool first) { log_message(request, line, first); });
  return room;
}

} // namespace tqfpm::dispatcher
