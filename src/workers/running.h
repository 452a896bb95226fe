// Workers with a request: from the moment they get it until they are idle again.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "workers/context.h"
#include "workers/ending.h"
#include "workers/starting.h"
#include "workers/worker_log.h"

namespace tqfpm::workers {

// A request in php-fpm's words for its log: script 'X' (request: "GET /x").
std::string work_text(const pool::Request &request);

class Running {
public:
  Running(Context &context, WorkerLog &log, Ending &ending, Starting &starting);

  // See Workers.
  bool assign(pool::Request &request, pool::WorkerId id, std::string head, TimePoint now);
  void pump(pool::Request &request, bool hold, TimePoint now);
  void abandon(pool::Request &request, TimePoint now);

  // Does what is noted of a worker. False: nothing was.
  bool step(TimePoint now);
  void told(const LaunchTold &told, TimePoint now);
  // It lives, has closed its connection and does not tell why: its request is lost.
  void lose(Worker &worker);
  // Asks a worker whether it is idle again (php.spawn = exec).
  void probe(Worker &worker, TimePoint now);
  // End of the round: whom there were no descriptors for.
  void settle(TimePoint now);

private:
  void serve(Worker &worker, TimePoint now);
  void wants_connection(Worker &worker, TimePoint now);
  void try_later(Worker &worker, TimePoint now);
  [[nodiscard]] Worker *worker_of(const pool::Request &request) const;
  void send_more(Worker &worker, TimePoint now);
  void feed(Worker &worker, TimePoint now);
  // False: nothing was there.
  bool receive(Worker &worker, bool all, TimePoint now);
  void act(Worker &worker, Connection::Received &received, TimePoint now);
  void answer(Worker &worker, std::string_view records, const fcgi::ResponseScan &scan, bool timed_out = false);
  void ended(Worker &worker, Connection::Received &received, TimePoint now);
  void finished_early(Worker &worker, Connection::Received &received, TimePoint now);
  void came_back(Worker &worker, TimePoint now);
  void closed(Worker &worker, TimePoint now);
  void after_request(Worker &worker, TimePoint now);
  void become_idle(Worker &worker, TimePoint now);
  bool recycle(Worker &worker, TimePoint now);
  void weigh(Worker &worker, TimePoint now);
  void weighed(pool::WorkerId id, const SpawnerAnswer &answer);
  void set_unless_ending(Worker &worker, pool::WorkerState state, TimePoint now);

  Context &context_;
  WorkerLog &log_;
  Ending &ending_;
  Starting &starting_;
  std::string last_records_;          // of the last answer that ended with fastcgi_finish_request()
  std::vector<pool::WorkerId> later_; // to be given a connection, or asked, when there are descriptors
  bool shortage_said_ = false;        // in this episode
  bool later_due_ = false;
  sys::TimerWatch later_timer_;
};

} // namespace tqfpm::workers
