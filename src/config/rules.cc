#include "config/rules.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/networks.h"
#include "base/text.h"
#include "php/ini_text.h"

namespace tqfpm::config {

namespace {

// The rules of one pool.
class PoolRules {
public:
  PoolRules(LoadResult &result, PoolConfig &pool) : result_(result), pool_(pool) {}

  void apply() {
    required();
    manager();
    pages();
    paths();
    clients();
    php_settings();
    others();
  }

private:
  [[nodiscard]] bool is_set(const char *directive) const { return result_.places.contains({pool_.name, directive}); }
  void say(Severity severity, const char *directive, const std::string &text) {
    result_.say(severity, pool_, directive, text);
  }
  void error(const char *directive, const std::string &text) { say(Severity::kError, directive, text); }

  void required();
  void manager();
  void dynamic();
  void pages();
  void page(const char *directive, const char *name, const std::string &path);
  void paths();
  void clients();
  void php_settings();
  void others();

  LoadResult &result_;
  PoolConfig &pool_;
};

void PoolRules::required() {
  if (pool_.listen.kind == Address::Kind::kNone && pool_.listen.text.empty())
    error("listen", "no listen address have been defined! Add listen = ADDRESS");
  if (pool_.pm == ProcessManagerKind::kUnset && !is_set("pm"))
    error("pm", "the process manager is missing (static, dynamic or ondemand)");
  if (pool_.pm_max_children < 1)
    error("pm.max_children", "pm.max_children must be a positive value");
}

void PoolRules::manager() {
  if (pool_.pm == ProcessManagerKind::kDynamic)
    dynamic();
  else if (pool_.pm == ProcessManagerKind::kOnDemand && pool_.pm_process_idle_timeout < std::chrono::seconds(1))
    error("pm.process_idle_timeout", fmt::format("pm.process_idle_timeout({}s) must be greater than 0s",
                                                 std::chrono::duration<double>(pool_.pm_process_idle_timeout).count()));
}

void PoolRules::dynamic() {
  const std::int64_t least = pool_.pm_min_spare_servers;
  const std::int64_t most = pool_.pm_max_spare_servers;
  const std::int64_t children = pool_.pm_max_children;
  if (least < 1) {
    error("pm.min_spare_servers", fmt::format("pm.min_spare_servers({}) must be a positive value", least));
  } else if (most < 1) {
    error("pm.max_spare_servers", fmt::format("pm.max_spare_servers({}) must be a positive value", most));
  } else if (least > children || most > children) {
    error(
        least > children ? "pm.min_spare_servers" : "pm.max_spare_servers",
        fmt::format("pm.min_spare_servers({}) and pm.max_spare_servers({}) cannot be greater than pm.max_children({})",
                    least, most, children));
  } else if (most < least) {
    error("pm.max_spare_servers",
          fmt::format("pm.max_spare_servers({}) must not be less than pm.min_spare_servers({})", most, least));
  } else if (pool_.pm_start_servers <= 0) {
    pool_.pm_start_servers = least + (most - least) / 2;
    say(Severity::kNotice, "pm",
        fmt::format("pm.start_servers is not set. It's been set to {}.", pool_.pm_start_servers));
  } else if (pool_.pm_start_servers < least || pool_.pm_start_servers > most) {
    error("pm.start_servers",
          fmt::format("pm.start_servers({}) must not be less than pm.min_spare_servers({}) and not greater than "
                      "pm.max_spare_servers({})",
                      pool_.pm_start_servers, least, most));
  }
}

void PoolRules::page(const char *directive, const char *name, const std::string &path) {
  constexpr std::string_view kAllowed = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789/-_.~";
  if (path.empty())
    return;
  if (path.front() != '/')
    error(directive, fmt::format("the {} path '{}' must start with a '/'", name, path));
  else if (path.size() < 2)
    error(directive, fmt::format("the {} path '{}' is not long enough", name, path));
  else if (path.find_first_not_of(kAllowed) != std::string::npos)
    error(directive,
          fmt::format("the {} path '{}' must contain only the following characters '[alphanum]/_-.~'", name, path));
}

void PoolRules::pages() {
  page("pm.status_path", "status", pool_.pm_status_path);
  page("ping.path", "ping", pool_.ping_path);
  if (!pool_.ping_path.empty() && pool_.ping_path == pool_.pm_status_path)
    error("ping.path", "ping.path and pm.status_path are the same");
  if (pool_.ping_response.empty())
    error("ping.response", "the ping response page '' is not long enough");
}

void PoolRules::paths() {
  if (is_set("prefix") && !pool_.prefix.empty() && pool_.prefix.front() != '/')
    error("prefix", fmt::format("the prefix path '{}' must start with a '/'", pool_.prefix));
  if (pool_.request_slowlog_timeout > Duration::zero() && pool_.slowlog.empty())
    error("request_slowlog_timeout", "'slowlog' must be specified for use with 'request_slowlog_timeout'");
  if (pool_.request_terminate_timeout > Duration::zero() &&
      pool_.request_slowlog_timeout > pool_.request_terminate_timeout)
    error("request_slowlog_timeout", "'request_slowlog_timeout' can't be greater than 'request_terminate_timeout'");
}

// As php-fpm: a wrong address is no reason not to serve, but nobody gets in by it.
void PoolRules::clients() {
  bool any = pool_.listen_allowed_clients.empty();
  for (const std::string &each : pool_.listen_allowed_clients) {
    if (parse_network(each))
      any = true;
    else
      say(Severity::kWarning, "listen.allowed_clients",
          fmt::format("Wrong IP address '{}' in listen.allowed_clients", each));
  }
  if (!any)
    say(Severity::kWarning, "listen.allowed_clients", "There are no allowed addresses: nobody can connect");
}

void PoolRules::php_settings() {
  const std::pair<const char *, const std::vector<KeyValue> *> all[] = {
      {"php_value", &pool_.php_value},
      {"php_flag", &pool_.php_flag},
      {"php_admin_value", &pool_.php_admin_value},
      {"php_admin_flag", &pool_.php_admin_flag},
  };
  for (const auto &[directive, settings] : all) {
    for (const KeyValue &each : *settings) {
      if (!php::is_setting_name(each.key))
        error(directive, fmt::format("'{}' cannot be the name of a PHP setting", safe(each.key)));
    }
  }
}

void PoolRules::others() {
  for (const std::string &each : pool_.security_limit_extensions) {
    if (each.front() != '.' || each.size() < 2)
      error("security.limit_extensions", fmt::format("the extension '{}' must start with a dot", each));
  }
  if (pool_.php_spawn == SpawnMode::kExec && !pool_.chroot.empty())
    error("php.spawn", "chroot needs php.spawn = fork: php-cgi itself is outside of the chroot");
  const std::uint64_t one = pool_.request_buffer_size.value + pool_.response_buffer_size.value;
  if (pool_.memory_buffers.value < one)
    error("memory.buffers", fmt::format("memory.buffers({}) must not be less than request_buffer_size and "
                                        "response_buffer_size together({})",
                                        pool_.memory_buffers.value, one));
}

// The mechanisms of php-fpm's that Linux has.
void check_mechanism(LoadResult &result) {
  const std::string &name = result.config.global.events_mechanism;
  const std::string known = lower(name);
  if (name.empty() || known == "epoll" || known == "poll" || known == "select")
    return;
  const auto place = result.places.find({"", "events.mechanism"});
  result.messages.push_back(Message{Severity::kError, place == result.places.end() ? Location{} : place->second, "",
                                    "event mechanism '" + name + "' is not available on this system", Lead::kPlace});
}

void check_addresses(LoadResult &result) {
  std::map<std::string, std::string> users;
  const auto claim = [&](const PoolConfig &pool, const Address &listen, const char *directive) {
    if (listen.text.empty())
      return;
    const std::string address =
        listen.kind == Address::Kind::kUnix ? listen.path : fmt::format("{}:{}", listen.host, listen.port);
    const auto [other, is_new] = users.emplace(address, pool.name);
    if (!is_new)
      result.say(Severity::kError, pool, directive,
                 fmt::format("unable to set listen address as it's already used in another pool '{}'", other->second));
  };
  for (const PoolConfig &pool : result.config.pools)
    claim(pool, pool.listen, "listen");
  for (const PoolConfig &pool : result.config.pools)
    claim(pool, pool.pm_status_listen, "pm.status_listen");
}

} // namespace

void apply_rules(LoadResult &result) {
  for (PoolConfig &pool : result.config.pools)
    PoolRules(result, pool).apply();
  check_addresses(result);
  check_mechanism(result);
  if (result.config.pools.empty() && result.ok())
    result.messages.push_back(Message{
        Severity::kError, {}, "", "No pool defined. at least one pool section must be specified in config file"});
}

} // namespace tqfpm::config
