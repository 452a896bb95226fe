#include "workers/starting.h"

#include <cstring>

#include "sys/log.h"
#include "sys/socket.h"
#include "workers/exec_launcher.h"

namespace tqfpm::workers {

using pool::VariantNumber;
using pool::WorkerState;
using status::Metric;

namespace {
constexpr Duration kStartRetry = milliseconds(100);
constexpr Duration kShortage = seconds(1);
} // namespace

Starting::Starting(Context &context, WorkerLog &log, Ending &ending)
    : context_(context), log_(log), ending_(ending),
      recycling_(static_cast<std::uint64_t>(context.pool.pm_max_requests),
                 static_cast<std::size_t>(context.pool.pm_max_children),
                 static_cast<std::uint32_t>(context.children.system().self())) {}

void Starting::begin(TimePoint now) {
  if (context_.fork_mode)
    (void)context_.variants.start(0, now);
  else if (context_.pool.pm == config::ProcessManagerKind::kOnDemand)
    context_.be_ready(now);
  else
    context_.changed();
}

bool Starting::start(VariantNumber number, TimePoint now) {
  Variants &variants = context_.variants;
  if (context_.fork_mode && !variants.ready(number)) {
    if (!variants.coming(number)) {
      const auto evicted = variants.start(number, now);
      if (evicted && *evicted != 0) {
        ending_.stop_idle(*evicted, Metric::ended_settings, now);
        variants.tidy(*evicted, now); // or later, when its workers have gone
      }
    }
    return true; // the template's READY decides again
  }
  if (now < short_until_ ||
      !context_.board.take(context_.holder, static_cast<std::uint64_t>(context_.global.process_max)))
    return false;
  Worker *worker = context_.roster.add(number, now);
  if (worker == nullptr) {
    context_.board.give(context_.holder);
    return false;
  }
  worker->limit = recycling_.limit();
  auto ends = log_.make(*worker);
  const Status status = ends.ok()
                            ? context_.launcher->start(*worker, number, ends.value().out.get(), ends.value().err.get())
                            : Status(ends.error());
  if (status.ok()) {
    short_was_said_ = false;
    return true;
  }
  if (sys::is_shortage(status.error().code)) {
    short_of_descriptors(status.error(), now);
    ending_.retire(*worker, now);
  } else {
    failed(*worker, status.error().message, now);
  }
  return false;
}

// Those that run are not concerned, and it is no fault of PHP's.
void Starting::short_of_descriptors(const Error &error, TimePoint now) {
  short_until_ = now + kShortage;
  if (!std::exchange(short_was_said_, true))
    sys::log().warning("[pool {}] no worker can be started at the moment: {}; trying again", context_.pool.name,
                       error.message);
}

TimePoint Starting::retry_at(TimePoint now) const {
  return std::max({context_.manager.paused_until(), short_until_, now + kStartRetry});
}

void Starting::failed(Worker &worker, const std::string &why, TimePoint now) {
  sys::log().error("[pool {}] cannot start a worker: {}", context_.pool.name, why);
  context_.manager.start_failed(now);
  ending_.retire(worker, now);
  if (context_.fork_mode)
    context_.be_ready(now);
  else
    context_.fail(why);
  context_.changed();
}

void Starting::unheard(Worker &worker, TimePoint now) {
  const VariantNumber number = context_.roster.variant(worker);
  const bool silent = context_.fork_mode && context_.variants.ready(number) && !context_.outdated(worker) &&
                      last_sign_ < worker.life.spawned; // nor has another worker come since this one was ordered
  failed(worker, "php-cgi did not report in time", now);
  if (!silent || !context_.variants.known(number) || !context_.variants.ready(number))
    return;
  sys::log().warning("[pool {}] the template does not answer: starting another one; workers go on", context_.pool.name);
  context_.variants.renew(number, now);
}

void Starting::came_up(const Worker &worker) {
  last_sign_ = context_.loop.now();
  context_.manager.start_succeeded();
  context_.scoreboard.add(Metric::workers_started);
  if (ending_.take_replacing())
    sys::log().notice("[pool {}] child {} started", context_.pool.name, worker.pid);
  else
    sys::log().debug("[pool {}] child {} started", context_.pool.name, worker.pid);
  ending_.others_known();
}

bool Starting::worn(const Worker &worker) const {
  const pool::WorkerTable &table = context_.roster.table();
  return recycling_.due(worker.served, worker.limit,
                        table.count(WorkerState::kStopping) + table.count(WorkerState::kStarting));
}

void Starting::template_told(const Variants::Told &told, TimePoint now) {
  switch (told.what.what) {
  case TemplateTold::What::kReady:
    template_ready(told.number, told.what.facts, now);
    return;
  case TemplateTold::What::kSpawnFailed: {
    Worker *worker = context_.roster.find(told.what.worker);
    if (worker != nullptr && context_.roster.state(*worker) == WorkerState::kStarting && worker->pid < 0)
      failed(*worker, fmt::format("cannot fork: {}", strerror(told.what.error)), now);
    return;
  }
  case TemplateTold::What::kGone:
    template_gone(told.number, told.what.text, told.was_ready, now);
    return;
  }
}

// Idle workers of former templates end, others after their requests: the pool shares one OPcache again.
void Starting::template_ready(VariantNumber number, const ipc::PhpFacts &facts, TimePoint now) {
  if (number == 0) {
    Event event;
    event.kind = Event::Kind::kFacts;
    event.facts = facts;
    context_.events.push(std::move(event));
  }
  if (context_.pool.pm == config::ProcessManagerKind::kOnDemand)
    context_.be_ready(now);
  for (std::size_t i = 0; i < context_.roster.slots(); ++i) {
    Worker *worker = context_.roster.at(i);
    if (worker != nullptr && context_.roster.variant(*worker) == number &&
        context_.roster.state(*worker) == WorkerState::kIdle && context_.outdated(*worker))
      ending_.stop(*worker, Metric::ended_renewed, now);
  }
  context_.changed();
}

// A template of the pool's own settings has to be there always; one of others when it is needed again.
void Starting::template_gone(VariantNumber number, const std::string &why, bool was_ready, TimePoint now) {
  context_.variants.start_lines().say();
  if (context_.draining && context_.queued == 0)
    return;
  if (number != 0) {
    sys::log().warning("[pool {}] the template for settings of a web server {} ({}); workers go on", context_.pool.name,
                       was_ready ? "has gone" : "does not start", why);
    if (!was_ready) {
      context_.variants.refuse(number, now);
      Event event;
      event.kind = Event::Kind::kVariantFailed;
      event.variant = number;
      context_.events.push(std::move(event));
    }
    context_.changed();
    return;
  }
  if (!was_ready && context_.phase != Context::Phase::kReady) {
    fall_back(why, now);
    return;
  }
  const Duration delay = context_.variants.start_again(number, now);
  sys::log().warning("[pool {}] the template has gone ({}), starting another one in {} ms; workers go on",
                     context_.pool.name, why, std::chrono::duration_cast<milliseconds>(delay).count());
}

void Starting::fall_back(const std::string &why, TimePoint now) {
  if (!context_.pool.chroot.empty()) {
    context_.fail("the template does not start (" + why + "), and chroot needs it; see the messages of php-cgi above");
    return;
  }
  sys::log().notice("[pool {}] the template does not start ({}): falling back to php.spawn = exec, without OPcache and "
                    "APCu shared between workers",
                    context_.pool.name, why);
  context_.fork_mode = false;
  context_.deadlines.probes = true;
  context_.launcher = std::make_unique<ExecLauncher>(context_.loop, context_.pool, context_.roster, context_.children,
                                                     context_.variants, context_.spawner);
  begin(now);
}

} // namespace tqfpm::workers
