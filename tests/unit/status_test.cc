// The status page and the access log line.
#include <gtest/gtest.h>
#include <regex.h>

#include <algorithm>
#include <array>
#include <map>
#include <nlohmann/json.hpp>
#include <sstream>

#include "status/access_format.h"
#include "status/render.h"
#include "status/scoreboard.h"

namespace tqfpm::status {
namespace {

PoolState state() {
  PoolState s;
  s.pool = "www<&\">";
  s.manager = "dynamic";
  s.start_since = 60;
  s.accepted = 10;
  s.queue = 1;
  s.max_queue = 2;
  s.queue_size = 100;
  s.idle = 3;
  s.active = 1;
  s.total = 4;
  s.max_active = 2;
  WorkerView worker;
  worker.pid = 42;
  worker.state = "Running";
  worker.method = "GET";
  worker.uri = "/a?<script>&\"'\\\n\xff";
  s.workers.push_back(worker);
  return s;
}

TEST(Status, TextHasPhpFpmsFieldsInItsOrder) {
  const Page page = render_status(state(), "");
  EXPECT_EQ(page.content_type, "Content-type: text/plain;charset=UTF-8");
  std::size_t before = 0;
  for (const char *field :
       {"pool:", "process manager:", "start time:", "start since:", "accepted conn:", "listen queue:",
        "max listen queue:", "listen queue len:", "idle processes:", "active processes:", "total processes:",
        "max active processes:", "max children reached:", "slow requests:"}) {
    const std::size_t at = page.body.find(std::string("\n") + field);
    const std::size_t found = std::string(field) == "pool:" ? page.body.find(field) : at;
    ASSERT_NE(found, std::string::npos) << field;
    EXPECT_GE(found, before);
    before = found;
  }
  EXPECT_EQ(page.body.find("pid:"), std::string::npos);
  EXPECT_NE(render_status(state(), "full").body.find("pid:"), std::string::npos);
}

TEST(Status, JsonIsValidWhateverAClientSends) {
  const Page page = render_status(state(), "full&json");
  EXPECT_EQ(page.content_type, "Content-Type: application/json");
  const auto json = nlohmann::json::parse(page.body);
  EXPECT_EQ(json["pool"], "www<&\">");
  EXPECT_EQ(json["accepted conn"], 10);
  EXPECT_EQ(json["processes"].size(), 1U);
  EXPECT_EQ(json["processes"][0]["pid"], 42);
}

TEST(Status, MarkupIsEscaped) {
  for (const char *query : {"html&full", "xml&full"}) {
    const std::string body = render_status(state(), query).body;
    EXPECT_EQ(body.find("?<script>"), std::string::npos) << query;
    EXPECT_NE(body.find("&lt;script&gt;"), std::string::npos) << query;
    EXPECT_NE(body.find("www&lt;&amp;"), std::string::npos) << query;
  }
}

// The rules of the OpenMetrics text format, for what is in these pages: families in one piece, each with a TYPE and a
// HELP of its own, samples of the right names, labels and numbers well formed, EOF last. Returns what is wrong.
class Pattern {
public:
  explicit Pattern(const char *text) { EXPECT_EQ(::regcomp(&compiled_, text, REG_EXTENDED), 0) << text; }
  ~Pattern() { ::regfree(&compiled_); }
  Pattern(const Pattern &) = delete;
  Pattern &operator=(const Pattern &) = delete;
  // What its brackets have found; nothing: it does not match.
  std::vector<std::string> match(const std::string &line) const {
    std::array<regmatch_t, 4> found{};
    std::vector<std::string> parts;
    if (::regexec(&compiled_, line.c_str(), found.size(), found.data(), 0) != 0)
      return parts;
    for (const regmatch_t &each : found)
      parts.push_back(each.rm_so < 0 ? "" : line.substr(std::size_t(each.rm_so), std::size_t(each.rm_eo - each.rm_so)));
    return parts;
  }

private:
  regex_t compiled_{};
};

std::string openmetrics_error(const std::string &page, bool strict_counters) {
  const Pattern meta("^# (TYPE|HELP) ([a-zA-Z_:][a-zA-Z0-9_:]*) (.+)$");
  const Pattern sample("^([a-zA-Z_:][a-zA-Z0-9_:]*)(\\{[a-z_]+=\"([^\"\\]|\\\\[\"\\n])*\"\\})? -?[0-9.]+$");
  std::istringstream lines(page);
  std::map<std::string, std::map<std::string, std::string>> families;
  std::string current;
  bool ended = false;
  for (std::string line; std::getline(lines, line);) {
    if (ended)
      return "after EOF: " + line;
    if (line == "# EOF") {
      ended = true;
    } else if (const auto told = meta.match(line); !told.empty()) {
      if (current != told[2] && families.contains(told[2]))
        return "family in pieces: " + line;
      current = told[2];
      if (!families[current].emplace(told[1], told[3]).second)
        return "twice: " + line;
    } else if (const auto value = sample.match(line); !value.empty()) {
      const std::string type = families[current]["TYPE"];
      const std::string suffix = type == "info" ? "_info" : type == "counter" && strict_counters ? "_total" : "";
      if (value[1] != current + suffix || families[current]["HELP"].empty() || type.empty())
        return "sample without its family: " + line;
    } else {
      return "neither sample nor comment: " + line;
    }
  }
  return ended ? "" : "no EOF";
}

TEST(Status, OpenMetricsIsValid) {
  PoolState s = state();
  s.version = "1.2\"3";
  s.metrics[static_cast<std::size_t>(Metric::queue_full)] = 7;
  const Page page = render_status(s, "openmetrics&full");
  EXPECT_EQ(page.content_type, "Content-Type: application/openmetrics-text; version=1.0.0; charset=utf-8");
  const std::size_t php = page.body.find("# HELP phpfpm_up");
  ASSERT_NE(php, std::string::npos);
  EXPECT_EQ(openmetrics_error(page.body.substr(0, php) + "# EOF\n", true), "");
  EXPECT_EQ(openmetrics_error(page.body, false).substr(0, 26),
            "sample without its family:");                        // our counters have _total
  EXPECT_EQ(openmetrics_error(page.body.substr(php), false), ""); // php-fpm's have not
  EXPECT_TRUE(page.body.ends_with("# EOF\n"));
  EXPECT_NE(page.body.find("tqfpm_queue_full_total{pool=\"www<&\\\">\"} 7\n"), std::string::npos) << page.body;
  for (const MetricInfo &info : kMetrics)
    EXPECT_NE(page.body.find(std::string("# TYPE tqfpm_") + info.name + " "), std::string::npos) << info.name;
}

TEST(Status, QueryWords) {
  EXPECT_TRUE(wants_workers("json&full"));
  EXPECT_TRUE(wants_workers("full="));
  EXPECT_FALSE(wants_workers("fullscreen"));
}

TEST(Status, PhpFpmsPageWordForWord) {
  ::setenv("TZ", "UTC", 1);
  ::tzset();
  PoolState s = state();
  s.pool = "www";
  s.workers[0].query = "x=1/2";
  s.workers[0].uri = "/\xc3\xa4\xff";
  EXPECT_EQ(render_status(s, "json").body,
            R"({"pool":"www","process manager":"dynamic","start time":0,"start since":60,"accepted conn":10,)"
            R"("listen queue":1,"max listen queue":2,"listen queue len":100,"idle processes":3,"active processes":1,)"
            R"("total processes":4,"max active processes":2,"max children reached":0,"slow requests":0})");
  EXPECT_NE(
      render_status(s, "json&full")
          .body.find(
              R"("slow requests":0, "processes":[{"pid":42,"state":"Running","start time":0,"start since":0,)"
              R"("requests":0,"request duration":0,"request method":"GET","request uri":"\/\u00e4?x=1\/2",)"
              R"("content length":0,"user":"-","script":"-","last request cpu":0.00,"last request memory":0}],"tqfpm":{)"),
      std::string::npos);
  const std::string html = render_status(s, "html").body;
  EXPECT_TRUE(html.starts_with("<!DOCTYPE html PUBLIC \"-//W3C//DTD XHTML 1.0 Strict//EN\""));
  EXPECT_TRUE(html.ends_with("<tr><th>slow requests</th><td>0</td></tr>\n</table>\n</body></html>"));
  EXPECT_TRUE(render_status(s, "xml").body.ends_with("<slow-requests>0</slow-requests>\n</status>"));
  EXPECT_NE(render_status(s, "xml&full").body.find("<request-uri>/\xc3\xa4\xef\xbf\xbd?x=1/2</request-uri>"),
            std::string::npos);
  EXPECT_NE(render_status(s, "").body.find("\nstart time:           01/Jan/1970:00:00:00 +0000\n"), std::string::npos);
  // In the text page a client's newline begins no line.
  s.workers[0].uri = "/\npool: forged";
  EXPECT_NE(render_status(s, "full").body.find("\nrequest URI:          /\\x0apool: forged?x=1/2\n"),
            std::string::npos);
}

TEST(Scoreboard, RowsHaveNamesOfTheirOwn) {
  std::vector<std::string> names;
  for (const MetricInfo &info : kMetrics)
    names.emplace_back(info.name);
  std::sort(names.begin(), names.end());
  EXPECT_EQ(std::adjacent_find(names.begin(), names.end()), names.end());
  Scoreboard board{};
  board.add(Metric::requests, 2);
  board.raise(Metric::max_busy_workers, 5);
  board.raise(Metric::max_busy_workers, 3);
  EXPECT_EQ(board.get(Metric::requests), 2U);
  EXPECT_EQ(board.get(Metric::max_busy_workers), 5U);
  EXPECT_EQ(board.get(Metric::lost), 0U);
}

std::string line(const std::string &format, const AccessRecord &record) {
  const auto compiled = AccessFormat::compile(format);
  EXPECT_TRUE(compiled.ok()) << format;
  return compiled.ok() ? compiled.value().line(record) : "";
}

TEST(AccessFormat, EveryPlaceholder) {
  ::setenv("TZ", "UTC", 1);
  ::tzset();
  AccessRecord record;
  record.method = "POST";
  record.uri = "/a";
  record.query = "x=1";
  record.script = "/srv/a.php";
  record.user = "bob";
  record.peer = "10.0.0.1";
  record.pool = "www";
  record.pid = 7;
  record.parent_pid = 3;
  record.status = 404;
  record.content_length = 12;
  record.seconds = 1.2345678;
  record.memory = 2 * 1024 * 1024;
  record.start = 0;
  record.end = 86400;
  record.param = [](std::string_view name) {
    return name == "HTTP_HOST" ? std::optional<std::string_view>("h") : std::nullopt;
  };
  record.head = "X: y\r\nContent-type: text/html\r\n";
  record.cpu_percent = 50;
  record.user_percent = 40.126;
  record.tag = "a-1";
  record.queue_seconds = 0.0015;
  EXPECT_EQ(line("%m %r%Q%q %f %u %R %n", record), "POST /a?x=1 /srv/a.php bob 10.0.0.1 www");
  EXPECT_EQ(line("%p %P %s %l %%", record), "7 3 404 12 %");
  EXPECT_EQ(line("%d %{Seconds}d %{ms}d %{milli}d %{mili}d %{us}d %{micro}d", record),
            "1.235 1.235 1234.568 1234.568 1234.568 1234568 1234568");
  EXPECT_EQ(line("%M %{kilo}M %{megabytes}M", record), "2097152 2048 2");
  EXPECT_EQ(line("%C %{user}C %{system}C %{total}C", record), "50.00 40.13 0.00 50.00");
  EXPECT_EQ(line("%{HTTP_HOST}e %{NO}e %{x}o %{Content-Type}o %{Z}o", record), "h - y text/html -");
  EXPECT_EQ(line("%t|%{%Y}T", record), "01/Jan/1970:00:00:00 +0000|1970");
  EXPECT_EQ(line("%{id}x %{why}x %{queue_wait}x %{queue_wait:ms}x %{queue_wait:us}x %{ttfb}x %{age}x", record),
            "a-1 - 0.002 1.500 1500 - -");
  record.first_byte_seconds = 0.25;
  record.worker_age_seconds = 60;
  record.reason = "queue full";
  EXPECT_EQ(line("%{why}x %{ttfb:ms}x %{age:s}x", record), "queue full 250.000 60.000");
}

TEST(AccessFormat, WhatIsMissingIsAsInPhpFpm) {
  AccessRecord record;
  EXPECT_EQ(line("%R|%u|%m|%r|%Q|%q|%f|%n|%{a}e|%{b}o", record), "-||-||||-|-|-|-");
}

TEST(AccessFormat, OnlyWhatIsAskedForIsMeasured) {
  const auto needs = [](const char *format) { return AccessFormat::compile(format).value().needs(); };
  EXPECT_FALSE(needs("%R %d").cpu || needs("%R %d").memory || needs("%R").head || needs("%R").times);
  EXPECT_TRUE(needs("%C").cpu && !needs("%C").times);
  EXPECT_TRUE(needs("%{user}C").times && !needs("%{user}C").cpu);
  EXPECT_TRUE(needs("%M").memory && needs("%{X}o").head && needs("json").cpu);
}

TEST(AccessFormat, NobodyForgesALine) {
  AccessRecord record;
  record.uri = "/a\n127.0.0.1 forged\x1b[0m \" 200\\";
  EXPECT_EQ(line("\"%r\"", record), "\"/a\\x0a127.0.0.1 forged\\x1b[0m \\x22 200\\x5c\"");
  const auto json = nlohmann::json::parse(line("json", record));
  EXPECT_EQ(json["uri"], record.uri);
  record.uri = "\xff";
  EXPECT_EQ(nlohmann::json::parse(line("json", record))["uri"], "\xef\xbf\xbd");
}

TEST(AccessFormat, Json) {
  AccessRecord record;
  record.method = "GET";
  record.pool = "www";
  record.seconds = 0.0012345678;
  record.cpu_percent = 12.345;
  record.pid = 5;
  const auto json = nlohmann::json::parse(line("json", record));
  EXPECT_EQ(json["duration"], 0.001235);
  EXPECT_EQ(json["status"], 200);
  EXPECT_EQ(json["time"], "1970-01-01T00:00:00+00:00");
  EXPECT_FALSE(json.contains("why") || json.contains("user") || json.contains("ttfb"));
}

TEST(AccessFormat, MistakesAreNamed) {
  const auto error = [](const std::string &format) {
    const auto compiled = AccessFormat::compile(format);
    return compiled.ok() ? "" : compiled.error().message;
  };
  EXPECT_EQ(error("%z"), "Invalid token in the access.format (%z)");
  EXPECT_EQ(error("a %"), "it ends in the middle of a placeholder");
  EXPECT_EQ(error("%{x"), "missing closing embrace in the access.format");
  EXPECT_EQ(error("%e"), "the name of the environment variable must be set between embraces for %e");
  EXPECT_EQ(error("%{}o"), "the name of the header must be set between embraces for %o");
  EXPECT_EQ(error("%{x}m"), "embrace is not allowed for modifier %m");
  EXPECT_EQ(error("%{idle}C"), "only 'total', 'user' or 'system' are allowed as a modifier for %C ('idle')");
  EXPECT_TRUE(error("%{years}d").starts_with("only 'seconds', 'milli', 'milliseconds', 'micro' or 'microseconds'"));
  EXPECT_TRUE(error("%{tera}M").starts_with("only 'bytes', 'kilo', 'kilobytes', 'mega' or 'megabytes'"));
  EXPECT_EQ(error("%{what}x"), "only id, why, queue_wait, ttfb and age are possible in %{...}x ('what')");
  EXPECT_EQ(error("%{ttfb:h}x"), "only s, ms and us are possible as the unit of a time in %{...}x ('ttfb:h')");
  EXPECT_EQ(error("%{id:ms}x"), "only id, why, queue_wait, ttfb and age are possible in %{...}x ('id:ms')");
}

} // namespace
} // namespace tqfpm::status
