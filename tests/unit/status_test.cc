// The status page and the access log line.
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

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
  EXPECT_EQ(page.content_type, "text/plain");
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
  EXPECT_EQ(page.content_type, "application/json");
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

TEST(Status, OpenMetricsEndsAsItMust) {
  const Page page = render_status(state(), "openmetrics");
  EXPECT_TRUE(page.content_type.starts_with("application/openmetrics-text"));
  EXPECT_TRUE(page.body.ends_with("# EOF\n"));
  EXPECT_TRUE(wants_workers("json&full"));
  EXPECT_FALSE(wants_workers("fullscreen"));
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
  record.param = [](std::string_view name) { return name == "HTTP_HOST" ? std::string_view("h") : std::string_view(); };
  record.header = [](std::string_view name) { return name == "X" ? std::string_view("y") : std::string_view(); };
  EXPECT_EQ(line("%m %r%Q%q %f %u %R %n", record), "POST /a?x=1 /srv/a.php bob 10.0.0.1 www");
  EXPECT_EQ(line("%p %P %s %l %%", record), "7 3 404 12 %");
  EXPECT_EQ(line("%d %{s}d %{ms}d %{mili}d %{us}d %{micro}d", record), "1.235 1.235 1234.568 1234.568 1234568 1234568");
  EXPECT_EQ(line("%M %{kilo}M %{mega}M", record), "2097152 2048 2");
  EXPECT_EQ(line("%{HTTP_HOST}e %{NO}e %{X}o %{Z}o", record), "h - y -");
  EXPECT_EQ(line("%t|%{%Y}T", record), "01/Jan/1970:00:00:00 +0000|1970");
}

TEST(AccessFormat, NobodyForgesALine) {
  AccessRecord record;
  record.uri = "/a\n127.0.0.1 forged\x1b[0m";
  EXPECT_EQ(line("%r", record), "/a\\x0a127.0.0.1 forged\\x1b[0m");
}

TEST(AccessFormat, MistakesAreNamed) {
  const auto error = [](const std::string &format) {
    const auto compiled = AccessFormat::compile(format);
    return compiled.ok() ? "" : compiled.error().message;
  };
  EXPECT_EQ(error("%z"), "unknown placeholder '%z' in access.format");
  EXPECT_EQ(error("a %"), "access.format ends in the middle of a '%' placeholder");
  EXPECT_EQ(error("%{x"), "'{' without '}' in access.format");
  EXPECT_EQ(error("%e"), "the placeholder '%e' of access.format needs a name: %{NAME}e");
  EXPECT_EQ(error("%{years}d"), "unknown unit 'years' of '%d' in access.format");
}

} // namespace
} // namespace tqfpm::status
