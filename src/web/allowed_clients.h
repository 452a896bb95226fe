// listen.allowed_clients: who is let in.
#pragma once

#include <string>
#include <vector>

#include "base/networks.h"
#include "config/types.h"

namespace tqfpm::web {

class AllowedClients {
public:
  explicit AllowedClients(const config::PoolConfig &pool);
  // May this address ("" for a Unix socket) connect? Who may not is told to the log.
  bool admits(const std::string &peer);

private:
  void say(const std::string &text) const;

  const config::PoolConfig &pool_;
  std::vector<Network> networks_;
  bool explained_ = false; // what is wrong with the list
};

} // namespace tqfpm::web
