// The scripts that requests name: which file runs, whether it may, and what php-cgi is told (php::ScriptRequest does
// the thinking). Where that depends on files the spawner looks: it sees what workers see, the dispatcher does not.
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <string>
#include <unordered_map>
#include <vector>

#include "config/types.h"
#include "dispatcher/answers.h"
#include "ipc/control.h"
#include "php/script_request.h"
#include "pool/request.h"
#include "spawner/php_command.h"
#include "status/scoreboard.h"
#include "workers/spawner_link.h"

namespace tqfpm::dispatcher {

class ScriptChoice {
public:
  ScriptChoice(const config::PoolConfig &pool, const spawner::PhpOptions &options, std::vector<std::string> folders,
               workers::SpawnerLink &spawner);
  // What the pool's php.ini says.
  void learn(const ipc::PhpFacts &facts);
  // Sets in the request what php-cgi gets. `locked`: PHP must find the section of a folder that the script is in. With
  // kWait the answer comes from found().
  Verdict judge(pool::Request &request, bool locked);
  // The next request whose script has been looked for; nullptr: there is none.
  pool::Request *found(Verdict &verdict);
  // The request goes away.
  void forget(const pool::Request &request);

private:
  struct Waiting {
    pool::Request *request = nullptr;
    bool locked = false;
  };
  struct Found {
    pool::RequestKey key = 0;
    bool looked = false;
    std::size_t length = 0; // of the script in the path
  };
  void look(pool::Request &request, const std::string &path, bool locked);
  Verdict act(pool::Request &request, php::ScriptRequest &script, php::ScriptAnswer answer, bool locked);

  const config::PoolConfig &pool_;
  std::vector<std::string> folders_; // in the root of what workers see, sorted
  workers::SpawnerLink &spawner_;
  php::ScriptRules rules_;
  std::unordered_map<pool::RequestKey, Waiting> waiting_;
  std::deque<Found> found_;
};

} // namespace tqfpm::dispatcher
