// The scripts that requests name: which file runs, whether it may, and what php-cgi is told (php::ScriptRequest does
// the thinking). Where that depends on files the spawner looks: it sees what workers see, the dispatcher does not.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "config/types.h"
#include "dispatcher/local_pages.h"
#include "dispatcher/request.h"
#include "ipc/control.h"
#include "php/script_request.h"
#include "spawner/php_command.h"
#include "sys/event_loop.h"

namespace tqfpm::dispatcher {

class ScriptsOwner {
public:
  virtual ~ScriptsOwner() = default;
  // False: the spawner takes no orders.
  virtual bool ask_look(const ipc::LookRequest &request) = 0;
  // The request will not run.
  virtual void script_refused(Request &request, const LocalAnswer &page) = 0;
  // A request that was looked at can run.
  virtual void script_ready(Request &request) = 0;
};

class Scripts {
public:
  Scripts(sys::EventLoop &loop, ScriptsOwner &owner, const config::PoolConfig &pool, const spawner::PhpOptions &options,
          std::vector<std::string> folders);
  // What the pool's php.ini says.
  void learn(const ipc::PhpFacts &facts);
  // `locked`: PHP must find the section of a folder that the script is in. True: the request has been refused. While
  // request.looking is set the request must wait.
  bool refuses(Request &request, bool locked);
  void answered(const ipc::SpawnerReply &reply);
  // There will be no answers any more.
  void spawner_gone();
  // The request goes away.
  void forget(const Request &request);

private:
  struct Waiting {
    Request *request = nullptr;
    bool locked = false;
    TimePoint given_up{};
  };
  bool look(Request &request, const std::string &path, bool locked);
  bool act(Request &request, php::ScriptRequest &script, php::ScriptAnswer answer, bool locked);
  void give_up(TimePoint until);

  ScriptsOwner &owner_;
  const config::PoolConfig &pool_;
  std::vector<std::string> folders_; // in the root of what workers see, sorted
  php::ScriptRules rules_;
  std::map<std::uint32_t, Waiting> waiting_; // by id, oldest first
  std::uint32_t next_id_ = 1;
  sys::TimerWatch timer_;
};

} // namespace tqfpm::dispatcher
