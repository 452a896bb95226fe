// The workers of a pool: starts them, gives them requests, notices their end. What to start and stop is decided by
// pool::ProcessManager; this is the part that acts.
//
// Passive: descriptors, timers and SIGCHLD only note what has happened. next() does the work and tells it, one thing at
// a time; nothing is told from inside another call. So whoever calls may call anything here in between. A round is
//
//   while (workers.next(event)) ...;   then decide(), assign(), pump() and abandon() as wanted,
//   again until next() says false;     at last settle()
//
// Everything that was noted by then is done; what is left over for a limit of work wakes the loop again.
#pragma once

#include <cstddef>
#include <functional>
#include <list>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/result.h"
#include "config/types.h"
#include "pool/matching.h"
#include "pool/request.h"
#include "pool/worker_table.h"
#include "spawner/spawner.h"
#include "status/render.h"
#include "sys/event_loop.h"
#include "sys/fd.h"
#include "workers/event.h"
#include "workers/settings.h"
#include "workers/slow_log.h"
#include "workers/spawner_link.h"

namespace tqfpm::workers {

using spawner::SpawnerProcess;

class Workers {
public:
  Workers(sys::EventLoop &loop, const config::PoolConfig &pool, const WorkersSettings &settings,
          SpawnerProcess spawner);
  ~Workers();
  Workers(const Workers &) = delete;
  Workers &operator=(const Workers &) = delete;

  // Starts the template, or in exec mode goes on at once.
  void begin();
  // SIGCHLD.
  void note_children();
  // False: nothing more has happened in this turn.
  bool next(Event &event);
  // End of the round: deadlines, gauges; destroys what has ended.
  void settle(TimePoint now);

  // --- requests
  [[nodiscard]] std::optional<pool::WorkerId> idle_worker(pool::VariantNumber variant) const;
  // Who gets which worker, of the requests that wait.
  [[nodiscard]] pool::Match match(const std::list<pool::RequestQueue::Entry> &queue) const;
  // Starts and stops workers as the manager decides, for `queued` requests that still wait and what match() wants for
  // them. `draining`: no spare workers any more.
  void decide(std::size_t queued, const pool::Match &wanted, bool draining, TimePoint now);
  // Gives the worker a request: sets its worker and worker_pid, takes its body. `head` is BEGIN_REQUEST and PARAMS.
  // False: the worker has just gone, the request is untouched; try another one. Never ends or destroys the request;
  // what the sending meets comes from next().
  bool assign(pool::Request &request, pool::WorkerId id, std::string head, TimePoint now);
  // For a running request, in each round that concerns it: gives its worker what is in request.body, if the worker has
  // taken the rest; `hold`: its client takes nothing at the moment, the answer is not read.
  void pump(pool::Request &request, bool hold);
  // Nobody waits for the request any more: its worker forgets it, no event names it. PHP sees that its connection is
  // closed.
  void abandon(pool::Request &request);
  // The answer to kWantsStatus; see status/worker_status.h.
  void send_status(pool::WorkerId id, const std::string &text);

  // --- settings of web servers
  // The variant with the settings of `key`; made with a memory file of what `settings` says if it is new. It is kept
  // for the caller until release(). nullopt: PHP has just not started with these settings.
  std::optional<pool::VariantNumber> variant(const std::string &key, const std::function<Result<sys::Fd>()> &settings);
  void release(pool::VariantNumber variant);
  [[nodiscard]] std::size_t variants() const;

  // --- the rest
  SpawnerLink &spawner(); // for looks
  SlowLog &slow_log();
  [[nodiscard]] const pool::WorkerTable &table() const;
  [[nodiscard]] std::vector<status::WorkerView> view() const; // for the status page
  // A drain. If no request waits, as decide() was told last: idle workers and the templates go at once, each other
  // worker after its request. Else nothing yet: what they need is kept and started. To be called again in each round.
  void finish();
  void kill_all();
  [[nodiscard]] bool empty() const { return table().total() == 0; }

private:
  struct Parts; // what it is made of
  std::unique_ptr<Parts> parts_;
};

} // namespace tqfpm::workers
