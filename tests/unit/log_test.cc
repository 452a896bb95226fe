// Lines of the error log.
#include <gtest/gtest.h>

#include <ctime>
#include <nlohmann/json.hpp>

#include "base/log_line.h"

namespace tqfpm {
namespace {

LogRecord record(std::string_view text) {
  ::setenv("TZ", "Europe/Berlin", 1);
  ::tzset();
  LogRecord record;
  record.level = Level::kWarning;
  record.since_epoch = std::chrono::microseconds(1764061200123456); // 25 November 2025, 09:00 UTC
  record.pid = 7;
  record.text = text;
  record.function = "serve";
  record.line = 12;
  return record;
}

LogRecord output(std::string_view text) {
  LogRecord said = record(text);
  said.pool = "www";
  said.child = 5;
  said.stream = "stderr";
  return said;
}

TEST(LogLine, TextIsPhpFpms) {
  EXPECT_EQ(text_line(record("[pool www] hello"), false), "[25-Nov-2025 10:00:00] WARNING: [pool www] hello");
  EXPECT_EQ(text_line(record("hello"), true), "[25-Nov-2025 10:00:00.123456] WARNING: pid 7, serve(), line 12: hello");
  EXPECT_EQ(text_line(output("a \"b\"\x1b"), false),
            "[25-Nov-2025 10:00:00] WARNING: [pool www] child 5 said into stderr: \"a \"b\"\\x1b\"");
}

TEST(LogLine, NobodyForgesALine) {
  EXPECT_EQ(text_line(record("GET /\n[25-Nov-2025 10:00:00] NOTICE: forged\r\x1b[0m"), false),
            "[25-Nov-2025 10:00:00] WARNING: GET /\\x0a[25-Nov-2025 10:00:00] NOTICE: forged\\x0d\\x1b[0m");
  EXPECT_EQ(text_line(output("\x1b[2J\r\tx\n\x7f\xc3\xa4"), false),
            "[25-Nov-2025 10:00:00] WARNING: [pool www] child 5 said into stderr: "
            "\"\\x1b[2J\\x0d\tx\\x0a\\x7f\xc3\xa4\"");
  EXPECT_EQ(json_line(record("a\nb")).find('\n'), std::string::npos);
  EXPECT_NE(json_line(output("\x1b[2J\r")).find("\\u001b[2J\\r"), std::string::npos);
}

TEST(LogLine, JsonIsOneValidObject) {
  const auto own = nlohmann::json::parse(json_line(record("[pool a b] it's \"here\"")));
  EXPECT_EQ(own, (nlohmann::json{{"time", "2025-11-25T10:00:00.123+01:00"},
                                 {"level", "warning"},
                                 {"pool", "a b"},
                                 {"pid", 7},
                                 {"message", "it's \"here\""}}));
  const auto said = nlohmann::json::parse(json_line(output("[pool x] \xff\n")));
  EXPECT_EQ(said["pool"], "www");
  EXPECT_EQ(said["child"], 5);
  EXPECT_EQ(said["stream"], "stderr");
  EXPECT_EQ(said["message"], "[pool x] \xef\xbf\xbd\n");
  EXPECT_FALSE(nlohmann::json::parse(json_line(record("no pool"))).contains("pool"));
}

TEST(LogLine, Syslog) {
  EXPECT_EQ(syslog_message(syslog_facility("daemon"), "tqfpm", record(""), "[WARNING] x"),
            "<28>Nov 25 10:00:00 tqfpm[7]: [WARNING] x");
  EXPECT_EQ(syslog_facility("LOG_LOCAL7"), 23 << 3);
  EXPECT_EQ(syslog_facility("User"), 1 << 3);
  EXPECT_EQ(syslog_facility("none"), -1);
}

} // namespace
} // namespace tqfpm
