#include "web/allowed_clients.h"

#include <unistd.h>

#include <algorithm>

#include "sys/log.h"

namespace tqfpm::web {

AllowedClients::AllowedClients(const config::PoolConfig &pool) : pool_(pool) {
  for (const std::string &each : pool.listen_allowed_clients) {
    if (const auto network = parse_network(each))
      networks_.push_back(*network);
  }
}

// In php-fpm a worker finds this out, and so its lines look: they are what is searched for.
void AllowedClients::say(const std::string &text) const {
  sys::log().said(pool_.name, ::getpid(), "stderr", "ERROR: " + text);
}

bool AllowedClients::admits(const std::string &peer) {
  if (pool_.listen_allowed_clients.empty() || peer.empty())
    return true;
  const auto address = parse_ip(peer);
  if (address && std::any_of(networks_.begin(), networks_.end(),
                             [&address](const Network &each) { return each.contains(*address); }))
    return true;
  if (!explained_) {
    for (const std::string &each : pool_.listen_allowed_clients) {
      if (!parse_network(each))
        say("Wrong IP address '" + each + "' in listen.allowed_clients");
    }
    if (networks_.empty())
      say("There are no allowed addresses");
    explained_ = true;
  }
  say("Connection disallowed: IP address '" + peer + "' has been dropped.");
  return false;
}

} // namespace tqfpm::web
