// How workers come up, and what they come from: orders, descriptors, failures, the fall-back to php.spawn = exec.
#pragma once

#include <string>

#include "pool/recycling.h"
#include "workers/context.h"
#include "workers/ending.h"
#include "workers/worker_log.h"

namespace tqfpm::workers {

class Starting {
public:
  Starting(Context &context, WorkerLog &log, Ending &ending);

  // Starts the template, or in exec mode goes on at once.
  void begin(TimePoint now);
  // False: not now, see retry_at(). True also when its template has to come up first.
  bool start(pool::VariantNumber number, TimePoint now);
  [[nodiscard]] TimePoint retry_at(TimePoint now) const;
  // It does not come up.
  // Nothing has been heard of it: whoever was to start it is stuck.
  void unheard(Worker &worker, TimePoint now);
  void failed(Worker &worker, const std::string &why, TimePoint now);
  // It is idle for the first time.
  void came_up(const Worker &worker);
  void template_told(const Variants::Told &told, TimePoint now);
  // Does a worker end now, after its request? See pool::Recycling.
  [[nodiscard]] bool worn(const Worker &worker) const;

private:
  void short_of_descriptors(const Error &error, TimePoint now);
  void template_ready(pool::VariantNumber number, const ipc::PhpFacts &facts, TimePoint now);
  void template_gone(pool::VariantNumber number, const std::string &why, bool was_ready, TimePoint now);
  void fall_back(const std::string &why, TimePoint now);

  Context &context_;
  WorkerLog &log_;
  Ending &ending_;
  pool::Recycling recycling_;
  TimePoint last_sign_{};       // a worker has come up
  TimePoint short_until_{};     // no descriptors: nothing is started before
  bool short_was_said_ = false; // in this episode
};

} // namespace tqfpm::workers
