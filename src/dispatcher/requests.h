// The requests of a pool, from their parameters to their end.
//
// What happens to a request follows from its state and from what has come for it: look_at() for what its client has
// sent, on() for what its worker has said, schedule() for the queue. Each of them may be called at any time and as
// often as wanted; a request ends in end() alone, and once.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "config/load.h"
#include "dispatcher/access_log.h"
#include "dispatcher/answers.h"
#include "dispatcher/php_output.h"
#include "dispatcher/pool_status.h"
#include "dispatcher/script_choice.h"
#include "dispatcher/web_settings.h"
#include "pool/request.h"
#include "pool/request_queue.h"
#include "status/scoreboard.h"
#include "sys/event_loop.h"
#include "web/front.h"
#include "workers/workers.h"

namespace tqfpm::dispatcher {

class Requests {
public:
  struct Parts {
    const config::Config &config; // [global] and one pool
    const spawner::PhpOptions &php;
    const std::vector<std::string> &folders; // in the root of what workers see
    status::Scoreboard &board;
    web::Front &front;
    workers::Workers &workers;
  };
  Requests(sys::EventLoop &loop, const Parts &parts, AccessLog &access_log);

  // What a client has sent; its requests that are over end.
  void look_at(web::Client &client, TimePoint now);
  // What a worker has said of a request.
  void on(const workers::Event &event, TimePoint now);
  // Requests whose script has been looked for.
  void scripts_found(TimePoint now);
  // Gives waiting requests to idle workers, refuses those that have waited too long, has workers started and ended.
  void schedule(TimePoint now);

  void drain() { draining_ = true; }
  void learn(const ipc::PhpFacts &facts) { script_choice_.learn(facts); }
  void variant_failed(pool::VariantNumber variant, TimePoint now);
  [[nodiscard]] std::size_t waiting() const { return queue_.length(); }
  [[nodiscard]] const PoolStatus &pool_status() const { return pool_status_; }

private:
  enum class End : std::uint8_t {
    kAnswered, // with END_REQUEST, which has been sent
    kAborted,  // by its client, which is owed an END_REQUEST
    kCut,      // a part of the answer has gone out, and there will be no more
    kGone,     // with its client
  };
  void step(pool::Request &request, web::Client &client, TimePoint now);
  void receive(pool::Request &request, TimePoint now);
  Verdict judge(pool::Request &request, TimePoint now);
  void follow(pool::Request &request, const Verdict &verdict, TimePoint now);
  [[nodiscard]] bool ready(const pool::Request &request) const;
  void submit(pool::Request &request, TimePoint now);
  void wait_again(pool::Request &request);
  void come_back(pool::Request &request, TimePoint now);
  void start_queued(pool::RequestKey key, pool::VariantNumber variant, TimePoint now);
  void start_waiting(pool::Match &wanted, TimePoint now);
  void expire(TimePoint now);
  bool start(pool::Request &request, pool::WorkerId worker, TimePoint now);
  [[nodiscard]] std::string head_of(const pool::Request &request, TimePoint now) const;
  void respond(pool::Request &request, const workers::Event &event, TimePoint now);
  void lose(pool::Request &request, const workers::Event &event, TimePoint now);
  [[nodiscard]] bool may_retry(const pool::Request &request, bool timed_out) const;
  void abandon(pool::Request &request, TimePoint now);
  void late(pool::Request &request, TimePoint now);
  void answer(pool::Request &request, const LocalAnswer &page, TimePoint now);
  void detach(pool::Request &request);
  void end(pool::Request &request, End how, TimePoint now);
  [[nodiscard]] web::Client &client_of(const pool::Request &request) const;

  const config::PoolConfig &pool_;
  status::Scoreboard &board_;
  web::Front &front_;
  workers::Workers &workers_;
  AccessLog &access_log_;
  pool::RequestQueue queue_;
  std::unordered_map<pool::RequestKey, pool::Request *> queued_;
  PhpOutput php_output_;
  WebSettings web_settings_;
  ScriptChoice script_choice_;
  PoolStatus pool_status_;
  std::string tag_prefix_;
  bool locked_values_; // scripts must be below one of the folders
  bool draining_ = false;
  sys::TimerWatch queue_timer_; // the first request in the queue has waited too long
};

} // namespace tqfpm::dispatcher
