#include "config/migrate.h"

#include <gtest/gtest.h>

#include "config/diff.h"

namespace tqfpm::config {
namespace {

LoadResult load_text(const std::string &text) {
  TextSource source(text);
  LoadRequest request;
  request.path = "/etc/x/php-fpm.conf";
  request.keep_environment = true;
  return load(request, source);
}

// Both files in one: what includes lead to.
std::string together(const std::vector<MigratedFile> &files) {
  std::string out;
  for (const MigratedFile &each : files) {
    for (std::size_t at = 0; at < each.text.size();) {
      const std::size_t end = each.text.find('\n', at);
      const std::string line = each.text.substr(at, end - at);
      at = end + 1;
      if (!line.starts_with("include"))
        out += line + "\n";
    }
  }
  return out;
}

constexpr char kPools[] = "[global]\nlog_level = debug\nprocess_control_timeout = 10s\nevents.mechanism = epoll\n"
                          "[www]\nuser = a\nlisten = 127.0.0.1:9000\npm = dynamic\npm.max_children = 8\n"
                          "pm.min_spare_servers = 1\npm.max_spare_servers = 3\nlisten.backlog = 511\n"
                          "security.limit_extensions =\nenv[PATH] = $PATH\nphp_admin_value[error_log] = /l/$pool.log\n"
                          "slowlog = log/$pool.slow\naccess.format = \"%R \\\"%m\\\" ; %%\"\n"
                          "[api]\nuser = a\nlisten = 9001\npm = static\npm.max_children = 1000\nphp_flag[x.y] = on\n";

TEST(Migrate, WhatIsWrittenLoadsToTheSame) {
  const LoadResult loaded = load_text(kPools);
  ASSERT_TRUE(loaded.ok());
  const auto files = migrated_files(loaded, "/etc/x/php-fpm.conf", "/new dir");
  ASSERT_EQ(files.size(), 3U);
  EXPECT_EQ(files[0].path, "tqfpm.conf");
  EXPECT_EQ(files[1].path, "tqfpm.d/www.conf");
  EXPECT_EQ(files[2].path, "tqfpm.d/api.conf");
  EXPECT_NE(files[0].text.find("include = \"/new dir/tqfpm.d/*.conf\""), std::string::npos);
  const LoadResult again = load_text(together(files));
  ASSERT_TRUE(again.ok()) << again.messages.front().str();
  for (const Change &each : diff(loaded.config, again.config))
    ADD_FAILURE() << each.pool << " " << each.directive << ": " << each.before << " -> " << each.after;
}

TEST(Migrate, OnlyWhatIsSetAndOtherThanTheDefault) {
  const auto files = migrated_files(load_text(kPools), "F", "/d");
  const std::string &www = files[1].text;
  EXPECT_NE(www.find("\n; /etc/x/php-fpm.conf:9\npm.max_children = 8\n"), std::string::npos) << www;
  EXPECT_EQ(www.find("listen.backlog"), std::string::npos); // the default
  EXPECT_EQ(www.find("pm.start_servers"), std::string::npos);
  EXPECT_NE(www.find("env[PATH] = \"\\$PATH\""), std::string::npos);
  EXPECT_LT(www.find("listen ="), www.find("pm.max_children")); // the table's order
  EXPECT_EQ(migrated_files(load_text("[.x]\nlisten = 1\npm = static\npm.max_children = 1\n"), "F", "/d")[1].path,
            "tqfpm.d/_.x.conf");
}

TEST(Migrate, TheReport) {
  MigrationFacts facts;
  facts.from = "F";
  facts.folder = "/d";
  facts.memory = 1ULL << 30;
  facts.memory_of = "this machine";
  facts.in_use = {{"www", "pid 7 (php-fpm: master process)"}};
  facts.running = {"pid 7 (php-fpm: master process)"};
  facts.packages = {"php8.2-cgi"};
  const std::string report = migration_report(load_text(kPools), facts);
  for (const char *words : {"F -> /d, 2 pools", "log_level", "  slowlog\n      Workers are read without being stopped",
                            "  events.mechanism\n      Checked, without effect", "apt install php8.2-cgi",
                            "pool www: listen\n      Its address is in use now, by pid 7", "php-fpm is running",
                            "1008 workers of all pools together, at 40 MB", "40320 MB; this\n      machine has 1024 MB",
                            "user = a\n      Pools www, api share it",
                            "pool api: listen = 9001\n      Other hosts reach it", "Then: tqfpm -y /d/tqfpm.conf"})
    EXPECT_NE(report.find(words), std::string::npos) << words << "\n" << report;
  EXPECT_EQ(report.find("pool www: listen = 127"), std::string::npos);
  EXPECT_EQ(report.find("process_control_timeout (not set)"), std::string::npos);
}

TEST(Migrate, NothingToDecide) {
  const std::string report = migration_report(load_text("[www]\nlisten = /run/x\npm = static\npm.max_children = 2\n"),
                                              MigrationFacts{"F", "/d", {}, {}, 0, "", {}});
  EXPECT_NE(report.find("For you to decide:\n  nothing\n"), std::string::npos) << report;
  EXPECT_NE(report.find("process_control_timeout (not set)"), std::string::npos);
}

} // namespace
} // namespace tqfpm::config
