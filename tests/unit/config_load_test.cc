// Files to configuration: sections, includes, merging, expansion, rules, messages; and back again.
#include <gtest/gtest.h>

#include <map>

#include "base/text.h"
#include "config/diff.h"
#include "config/dump.h"
#include "config/ini_source.h"
#include "config/load.h"
#include "config/table.h"
#include "php/constants.h"

namespace tqfpm::config {
namespace {

using Files = std::map<std::string, std::string>;

class MemoryFiles : public FileSource {
public:
  explicit MemoryFiles(Files files) : files_(std::move(files)) {}
  Result<std::string> read(const std::string &path) override {
    const auto found = files_.find(path);
    if (found == files_.end())
      return Error{"No such file or directory", 2};
    return found->second;
  }
  // "*" at the end of a folder only: enough for tests, in the order that glob() gives.
  Result<std::vector<std::string>> glob(const std::string &pattern) override {
    std::vector<std::string> found;
    const std::string folder = pattern.substr(0, pattern.find('*'));
    for (const auto &[path, text] : files_) {
      if (path.starts_with(folder))
        found.push_back(path);
    }
    return found;
  }

private:
  Files files_;
};

LoadResult load_files(const Files &files) {
  MemoryFiles source(files);
  LoadRequest request;
  request.path = "/etc/a.conf";
  request.default_prefix = "/usr";
  request.default_error_log = "/var/log/tqfpm.log";
  request.environment = [](const std::string &name) -> std::optional<std::string> {
    return name == "HERE" ? std::optional<std::string>("yes\nit is") : std::nullopt;
  };
  return load(request, source);
}

LoadResult load_text(const std::string &text) {
  return load_files({{"/etc/a.conf", text}});
}

const std::string kPool = "[www]\nlisten = /run/www.sock\npm = static\npm.max_children = 4\n";

std::vector<std::string> messages(const std::string &text) {
  std::vector<std::string> out;
  for (const Message &message : load_text(text).messages)
    out.push_back(message.str());
  return out;
}

std::string only_message(const std::string &text) {
  const auto all = messages(text);
  EXPECT_EQ(all.size(), 1U) << testing::PrintToString(all);
  return all.empty() ? "" : all.front();
}

TEST(Load, ASmallPool) {
  const LoadResult result = load_text("[global]\npid = run/x.pid\n" + kPool);
  ASSERT_TRUE(result.ok()) << testing::PrintToString(messages(kPool));
  EXPECT_EQ(result.config.global.pid, "/usr/run/x.pid");
  EXPECT_EQ(result.config.global.error_log, "/var/log/tqfpm.log");
  ASSERT_EQ(result.config.pools.size(), 1U);
  const PoolConfig &pool = result.config.pools.front();
  EXPECT_EQ(pool.name, "www");
  EXPECT_EQ(pool.listen.kind, Address::Kind::kUnix);
  EXPECT_EQ(pool.pm_max_children, 4);
  EXPECT_EQ(pool.ping_response, "pong"); // a default
}

TEST(Load, ListenAddresses) {
  const auto address = [](const std::string &text) {
    return load_text("[a]\npm = static\npm.max_children = 1\nlisten = " + text + "\n").config.pools.at(0).listen;
  };
  EXPECT_EQ(address("9000").port, 9000);
  EXPECT_EQ(address("9000").host, "");
  EXPECT_EQ(address("127.0.0.1:9001").host, "127.0.0.1");
  EXPECT_EQ(address("[::1]:9002").host, "::1");
  EXPECT_EQ(address("*:9003").host, "");
  EXPECT_EQ(address("run/$pool.sock").path, "/usr/run/a.sock");
  EXPECT_EQ(address("/x/$pool.sock").path, "/x/a.sock");
}

TEST(Load, PoolAndPrefixAreExpanded) {
  const LoadResult result = load_text(
      "[a]\nprefix = /srv/$pool\nlisten = a.sock\npm = static\npm.max_children = 1\n"
      "slowlog = $prefix/log/$pool.slow\nchdir = data/$pool\nchroot = /jails/$pool\naccess.log = log/$pool.log\n"
      "php_admin_value[error_log] = /log/$pool.php\n");
  const PoolConfig &pool = result.config.pools.at(0);
  EXPECT_EQ(pool.listen.path, "/srv/a/a.sock");
  EXPECT_EQ(pool.slowlog, "/srv/a/log/a.slow");
  EXPECT_EQ(pool.chdir, "/srv/a/data/a");
  EXPECT_EQ(pool.chroot, "/jails/a");
  EXPECT_EQ(pool.access_log, "/srv/a/log/a.log");
  EXPECT_EQ(pool.php_admin_value.at(0).value, "/log/a.php");
}

TEST(Load, IncludesInOrderAndSectionsMerge) {
  const LoadResult result =
      load_files({{"/etc/a.conf", "[global]\ninclude = /etc/pools/*\nlog_level = debug\n"},
                  {"/etc/pools/1.conf", "[b]\nlisten = 1\npm = static\npm.max_children = 1\nuser = one\n"},
                  {"/etc/pools/2.conf", "[a]\nlisten = 2\npm = static\npm.max_children = 1\n"},
                  {"/etc/pools/3.conf", "[b]\nuser = three\n"}});
  ASSERT_TRUE(result.ok());
  ASSERT_EQ(result.config.pools.size(), 2U);
  EXPECT_EQ(result.config.pools[0].name, "b");
  EXPECT_EQ(result.config.pools[0].user, "three"); // the later file wins, what it does not say stays
  EXPECT_EQ(result.config.pools[0].listen.port, 1);
  EXPECT_EQ(result.config.global.log_level, LogLevel::kDebug); // the section goes on after the include
}

TEST(Load, AnIncludeThatIncludesItself) {
  const LoadResult result =
      load_files({{"/etc/a.conf", "include = /etc/b.conf\n" + kPool}, {"/etc/b.conf", "include = /etc/a.conf\n"}});
  ASSERT_EQ(result.messages.size(), 1U);
  EXPECT_EQ(result.messages[0].str(), "/etc/b.conf:1: include: /etc/a.conf includes itself");
}

TEST(Load, EveryErrorOfAllFilesInOneRun) {
  const LoadResult result = load_files({{"/etc/a.conf", "[global]\nlog_levle = debug\ninclude = /etc/p/*\n"},
                                        {"/etc/p/1.conf", "[a]\nlisten = 1\npm.max_children = x\n"},
                                        {"/etc/p/2.conf", "[b]\npm = often\nlisten = 2\npm.max_children = 1\n"}});
  std::vector<std::string> all;
  for (const Message &message : result.messages)
    all.push_back(message.str());
  EXPECT_EQ(all, (std::vector<std::string>{
                     "/etc/a.conf:2: unknown directive 'log_levle', did you mean 'log_level'?",
                     "/etc/p/1.conf:3: [pool a] pm.max_children: 'x' is not a number",
                     "/etc/p/2.conf:2: [pool b] pm: 'often' is not possible, choose one of: static, dynamic, ondemand",
                     "/etc/p/1.conf:1: [pool a] the process manager is missing (static, dynamic or ondemand)",
                     "/etc/p/1.conf:3: [pool a] pm.max_children must be a positive value"}));
}

TEST(Load, Messages) {
  EXPECT_EQ(only_message(kPool + "pm.max_childen = 5\n"),
            "/etc/a.conf:5: [pool www] unknown directive 'pm.max_childen', did you mean 'pm.max_children'?");
  EXPECT_EQ(only_message(kPool + "log_level = debug\n"), "/etc/a.conf:5: [pool www] 'log_level' belongs into [global]");
  EXPECT_EQ(only_message("listen = 9000\n" + kPool), "/etc/a.conf:1: 'listen' belongs into the section of a pool");
  EXPECT_EQ(only_message(kPool + "listen.mode = 999\n"),
            "/etc/a.conf:5: [pool www] listen.mode: '999' is no octal number of 0000 to 0777");
  EXPECT_EQ(only_message(kPool + "queue.max_wait = 5y\n"),
            "/etc/a.conf:5: [pool www] queue.max_wait: '5y' is no time: a number with ms, s, m, h or d");
  EXPECT_EQ(only_message(kPool + "request_buffer_size = 1T\n"),
            "/etc/a.conf:5: [pool www] request_buffer_size: '1T' is no size: a number with K, M or G");
  EXPECT_EQ(only_message(kPool + "clear_env = maybe\n"),
            "/etc/a.conf:5: [pool www] clear_env: 'maybe' is neither yes nor no");
  EXPECT_EQ(only_message(kPool + "user[x] = a\n"), "/etc/a.conf:5: [pool www] 'user' takes no [x]");
  EXPECT_EQ(only_message(kPool + "ping.path = ping\n"),
            "/etc/a.conf:5: [pool www] the ping path 'ping' must start with a '/'");
  EXPECT_EQ(only_message(kPool + "php.spawn = exec\nchroot = /srv\n"),
            "/etc/a.conf:5: [pool www] chroot needs php.spawn = fork: php-cgi itself is outside of the chroot");
  EXPECT_EQ(only_message(kPool + kPool + "[b]\nlisten = /run/www.sock\npm = static\npm.max_children = 4\n"),
            "/etc/a.conf:10: [pool b] unable to set listen address as it's already used in another pool 'www'");
  EXPECT_EQ(only_message("[global]\nevents.mechanism = EPOLL\n" + kPool),
            "/etc/a.conf:2: 'events.mechanism' has no effect here, see tqfpm.conf(5)");
  EXPECT_EQ(only_message("[global]\n"), "No pool defined. at least one pool section must be specified in config file");
  EXPECT_EQ(only_message(kPool + "listen.setfib = 1\n"),
            "/etc/a.conf:5: [pool www] 'listen.setfib' has no effect here, see tqfpm.conf(5)");
  EXPECT_EQ(only_message(kPool + "request_slowlog_timeout = 1\n"),
            "/etc/a.conf:5: [pool www] 'slowlog' must be specified for use with 'request_slowlog_timeout'");
  EXPECT_EQ(only_message(kPool + "memory.buffers = 1M\n"),
            "/etc/a.conf:5: [pool www] memory.buffers(1048576) must not be less than request_buffer_size and "
            "response_buffer_size together(2097152)");
  EXPECT_EQ(only_message(kPool + "slowlog = /x\nrequest_slowlog_timeout = 9\nrequest_terminate_timeout = 5\n"),
            "/etc/a.conf:6: [pool www] 'request_slowlog_timeout' can't be greater than 'request_terminate_timeout'");
}

TEST(Load, NamesAndValuesThatPhpWouldNotRead) {
  EXPECT_EQ(only_message(kPool + "php_admin_value[on] = 1\n"),
            "/etc/a.conf:5: [pool www] 'on' cannot be the name of a PHP setting");
  EXPECT_EQ(only_message(kPool + "php_flag[a b] = on\n"),
            "/etc/a.conf:5: [pool www] 'a b' cannot be the name of a PHP setting");
  EXPECT_EQ(only_message(kPool + "php_value[a] = b" + std::string(1, 0) + "c\n"),
            "/etc/a.conf:5: [pool www] php_value: a null byte in the key or the value");
  EXPECT_EQ(only_message(kPool + "env[A] = b" + std::string(1, 0) + "c\n"),
            "/etc/a.conf:5: [pool www] env: a null byte in the key or the value");
}

TEST(Load, DynamicRules) {
  const auto with = [](const std::string &numbers) {
    return only_message("[a]\nlisten = 1\npm = dynamic\npm.max_children = 5\n" + numbers);
  };
  EXPECT_EQ(with("pm.min_spare_servers = 4\npm.max_spare_servers = 2\n"),
            "/etc/a.conf:6: [pool a] pm.max_spare_servers(2) must not be less than pm.min_spare_servers(4)");
  EXPECT_EQ(with("pm.min_spare_servers = 1\npm.max_spare_servers = 6\n"),
            "/etc/a.conf:6: [pool a] pm.min_spare_servers(1) and pm.max_spare_servers(6) cannot be greater than "
            "pm.max_children(5)");
  EXPECT_EQ(
      with("pm.min_spare_servers = 1\npm.max_spare_servers = 3\npm.start_servers = 4\n"),
      "/etc/a.conf:7: [pool a] pm.start_servers(4) must not be less than pm.min_spare_servers(1) and not greater than "
      "pm.max_spare_servers(3)");
  const LoadResult result = load_text(
      "[a]\nlisten = 1\npm = dynamic\npm.max_children = 5\npm.min_spare_servers = 1\npm.max_spare_servers = 3\n");
  EXPECT_TRUE(result.ok());
  EXPECT_EQ(result.config.pools[0].pm_start_servers, 2);
}

TEST(Load, EnvironmentOfWorkers) {
  const LoadResult result = load_text(kPool + "env[A] = $HERE\nenv[B] = $GONE\nenv[C] = \"x y\"\n");
  EXPECT_EQ(result.config.pools[0].env, (std::vector<KeyValue>{{"A", "yes\nit is"}, {"C", "x y"}}));
}

TEST(Load, AMissingFileSaysWhatToDo) {
  EXPECT_EQ(load_files({}).messages.at(0).str(), "/etc/a.conf: cannot read the configuration file /etc/a.conf: No such "
                                                 "file or directory; name another one with -y");
}

TEST(Load, PhpVersionOfDebiansFolders) {
  EXPECT_EQ(php_from_path("/etc/php/8.2/fpm/php-fpm.conf"), "8.2");
  EXPECT_EQ(php_from_path("/etc/php/x/fpm/php-fpm.conf"), "");
  EXPECT_EQ(php_from_path("/etc/tqfpm.conf"), "");
  EXPECT_EQ(php_folder_from_path("/etc/php/8.2/fpm/php-fpm.conf"), "/etc/php/8.2/fpm");
  EXPECT_EQ(php_folder_from_path("/etc/php/8.2/fpm/pool.d/a.conf"), "/etc/php/8.2/fpm");
  EXPECT_EQ(php_folder_from_path("/etc/php/8.2/php.conf"), "");
  EXPECT_EQ(php_folder_from_path("/etc/tqfpm.conf"), "");
}

// What -tt prints, and what dispatchers are given, loads again to the same.
TEST(Dump, LoadsAgainToTheSame) {
  const LoadResult first = load_text(
      "[global]\npid = /run/a\nprocess_control_timeout = 1500ms\nrlimit_core = unlimited\nprocess.priority = -3\n"
      "[www]\nprefix = /srv\nlisten = $pool.sock\nlisten.mode = 0600\nlisten.acl_users = a, b\npm = "
      "dynamic\npm.max_children = 9\n"
      "pm.min_spare_servers = 2\npm.max_spare_servers = 4\nuser = me\naccess.format = \"%R \\\"%m\\\" \\\\ ; $ "
      "%{X}e\"\n"
      "access.suppress_path[] = /a\naccess.suppress_path[] = /b\nenv[A] = $HERE\nphp_value[x] = 'a \" \\ "
      "$'\nphp_admin_flag[y] = on\n"
      "security.limit_extensions = \nqueue.max_wait = 2m\nrequest_buffer_size = 3M\n"
      "[b]\nlisten = [::1]:9000\npm = ondemand\npm.max_children = 1\n");
  ASSERT_TRUE(first.ok());
  const std::string text = dump(first.config);
  const LoadResult second = load_text(text);
  for (const Message &message : second.messages)
    EXPECT_NE(message.severity, Severity::kError) << message.str();
  EXPECT_EQ(second.config, first.config) << text;
  EXPECT_EQ(dump(second.config), text);
  EXPECT_TRUE(diff(first.config, second.config).empty());
  const LoadResult one = load_text(dump_pool(first.config, first.config.pools[1]));
  ASSERT_EQ(one.config.pools.size(), 1U);
  EXPECT_EQ(one.config.pools[0], first.config.pools[1]);
}

TEST(Dump, TheLogHasPhpFpmsLines) {
  const Config config =
      load_text(kPool + "access.suppress_path[] = /ping\nphp_value[error_reporting] = E_ALL & ~E_NOTICE\n"
                        "php_flag[display_errors] = On\nphp_admin_flag[log_errors] = off\nenv[A] = 'x \" y'\n"
                        "php_value[e_text] = E_ALLES\n")
          .config;
  const auto lines = dump_for_log(config, [](const PoolConfig &) { return 32767; });
  const auto has = [&lines](const char *line) { return std::count(lines.begin(), lines.end(), line) == 1; };
  for (const char *line :
       {"[global]", "[www]", "\tpm.max_children = 4", "\taccess.suppress_path[] = /ping",
        "\tphp_value[error_reporting] = 32759", "\tphp_value[display_errors] = 1", "\tphp_admin_value[log_errors] = 0",
        "\tenv[A] = x \" y", "\tslowlog = undefined", "\tphp_value[e_text] = E_ALLES"})
    EXPECT_TRUE(has(line)) << line << testing::PrintToString(lines);
}

TEST(PhpConstants, AsPhpsOwnParser) {
  EXPECT_EQ(php::error_level("E_ALL", 32767), 32767);
  EXPECT_EQ(php::error_level("E_ALL & ~E_DEPRECATED & ~E_STRICT", 32767), 22527);
  EXPECT_EQ(php::error_level("(E_ERROR | E_WARNING) ^ 1", 32767), 2);
  for (const char *text : {"", "5", "E_ALL &", "E_ALL E_ERROR", "e_all", "(E_ALL", "yes", "E_ALL & x"})
    EXPECT_EQ(php::error_level(text, 32767), std::nullopt) << text;
  EXPECT_EQ(php::error_level(std::string(1000, '~') + "E_ALL", 32767), std::nullopt);
  EXPECT_EQ(php::e_all_of("PHP 8.2.36 (cgi-fcgi)"), 32767);
  EXPECT_EQ(php::e_all_of("PHP 8.4.1 (cgi-fcgi)"), 30719);
  EXPECT_EQ(php::e_all_of("nothing"), 32767);
}

TEST(Load, PhpFpmsOwnWordsWhereTheyAreLookedFor) {
  EXPECT_EQ(
      messages("[global]\nlog_limit = 64\n" + kPool),
      (std::vector<std::string>{"log_limit must be greater than 512", "/etc/a.conf:2: log_limit = 64 cannot be used"}));
  EXPECT_EQ(messages("[a]\nlisten = 127.0.0.1:69002\npm = static\npm.max_children = 1\n"),
            (std::vector<std::string>{"invalid port value '69002'",
                                      "/etc/a.conf:2: [pool a] listen = 127.0.0.1:69002 cannot be used"}));
  EXPECT_EQ(only_message(kPool + "php_value[] = 1\n"), "[/etc/a.conf:5] You must provide a key for field 'php_value'");
  EXPECT_EQ(only_message(kPool + "access.suppress_path[x] = /\n"),
            "[/etc/a.conf:5] Keys provided to field 'access.suppress_path' are ignored");
  EXPECT_EQ(only_message(kPool + "access.suppress_path[] = x\n"),
            "[/etc/a.conf:5] Values provided to field 'access.suppress_path' must begin with '/'");
}

TEST(Load, AllowedClients) {
  const std::string tcp = "[www]\npm = static\npm.max_children = 4\nlisten = ";
  EXPECT_EQ(messages(tcp + "127.0.0.1:9000\n"), std::vector<std::string>{});
  EXPECT_EQ(messages(tcp + "0.0.0.0:9000\nlisten.allowed_clients = 10.0.0.0/8, ::1\n"), std::vector<std::string>{});
  EXPECT_EQ(only_message(tcp + "9000\nlisten.allowed_clients = ::1,10.0.0.0/99\n"),
            "/etc/a.conf:5: [pool www] Wrong IP address '10.0.0.0/99' in listen.allowed_clients");
  EXPECT_EQ(messages(tcp + "9000\nlisten.allowed_clients = xxx\n").back(),
            "/etc/a.conf:5: [pool www] There are no allowed addresses: nobody can connect");
  EXPECT_TRUE(load_text(tcp + "9000\nlisten.allowed_clients = xxx\n").ok());
}

TEST(Diff, NamesWhatChanged) {
  const Config before = load_text("[global]\nlog_level = notice\n" + kPool).config;
  const Config after =
      load_text("[global]\nlog_level = debug\n[www]\nlisten = /run/www.sock\npm = static\npm.max_children = 5\n"
                "[new]\nlisten = 1\npm = static\npm.max_children = 1\n")
          .config;
  const auto changes = diff(before, after);
  ASSERT_EQ(changes.size(), 3U);
  EXPECT_EQ(changes[0].directive, "log_level");
  EXPECT_EQ(changes[1].pool, "www");
  EXPECT_EQ(changes[1].directive, "pm.max_children");
  EXPECT_EQ(changes[2].pool, "new");
  EXPECT_EQ(changes[2].directive, "");
}

// An example is a value that its directive takes, and may go on with others.
void expect_good_example(const Row &row) {
  for (const IniItem &item : read_ini(row.example, nullptr)) {
    ASSERT_EQ(item.kind, IniItem::Kind::kEntry) << row.name;
    const Row *set = find_row(row.scope, item.entry.key);
    ASSERT_NE(set, nullptr) << row.name;
    EXPECT_EQ(item.entry.array_key.has_value(), set->array) << row.name;
    GlobalConfig global;
    PoolConfig pool;
    EXPECT_EQ(row.scope == Scope::kGlobal ? set->set_global(global, item.entry, set->range)
                                          : set->set_pool(pool, item.entry, set->range),
              "")
        << row.name;
  }
}

TEST(Table, RowsAreSound) {
  for (const Row &row : table()) {
    EXPECT_EQ(find_row(row.scope, row.name), &row) << row.name; // no name twice
    const std::string doc = row.doc;
    EXPECT_TRUE(doc.ends_with('.')) << row.name;
    EXPECT_LE(row.range.least, row.range.most) << row.name;
    const Difference &difference = row.difference;
    EXPECT_EQ(difference.kind == Difference::Kind::kSame, std::string(difference.why).empty()) << row.name;
    EXPECT_TRUE(row.origin == Origin::kFpm || difference.kind == Difference::Kind::kSame) << row.name;
    EXPECT_TRUE(row.state == State::kWorks || difference.kind == Difference::Kind::kDifferent) << row.name;
    const std::string example = row.example;
    EXPECT_TRUE(example.empty() || example.starts_with(row.name)) << row.name;
    expect_good_example(row);
    for (const std::string &name : split(row.see_also, ", "))
      EXPECT_TRUE(find_row(Scope::kGlobal, name) != nullptr || find_row(Scope::kPool, name) != nullptr)
          << row.name << ": " << name;
  }
  EXPECT_EQ(nearest_name(Scope::kPool, "listn"), "listen");
  EXPECT_EQ(nearest_name(Scope::kPool, "something else"), "");
}

} // namespace
} // namespace tqfpm::config
