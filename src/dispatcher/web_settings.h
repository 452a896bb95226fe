// PHP settings that web servers send with requests (PHP_VALUE and the like): whether they may, and which set of
// settings a request then needs.
#pragma once

#include <string>
#include <unordered_map>

#include "config/load.h"
#include "config/web_values.h"
#include "dispatcher/answers.h"
#include "pool/request.h"
#include "status/scoreboard.h"
#include "workers/workers.h"

namespace tqfpm::dispatcher {

class WebSettings {
public:
  WebSettings(const config::Config &config, workers::Workers &workers) : config_(config), workers_(workers) {}
  // Sets request.variant; what it holds is given back with Workers::release(). `locked` becomes true where scripts must
  // not change some of the settings.
  Verdict judge(pool::Request &request, bool &locked);

private:
  struct Settings {
    config::WebValues values;
    std::string key;
  };
  [[nodiscard]] bool refused(const pool::Request &request) const;
  [[nodiscard]] bool too_long(const pool::Request &request) const;
  const Settings &read(const pool::Request &request);
  [[nodiscard]] const config::PoolConfig &pool() const { return config_.pools.front(); }

  const config::Config &config_; // [global] and one pool
  workers::Workers &workers_;
  std::unordered_map<std::string, Settings> read_; // by the texts of the parameters
};

} // namespace tqfpm::dispatcher
