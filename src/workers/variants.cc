#include "workers/variants.h"

#include <algorithm>
#include <csignal>
#include <utility>

#include "base/wait_status.h"
#include "sys/log.h"
#include "sys/socket.h"
#include "workers/launcher.h"

namespace tqfpm::workers {

using pool::VariantNumber;
using pool::WorkerState;

namespace {

constexpr Duration kRefusal = seconds(5);      // how long settings that PHP did not start with are not tried again
constexpr Duration kShortage = seconds(1);     // until descriptors are asked for again
constexpr Duration kEndPatience = seconds(10); // from a template's closed control socket to SIGKILL

} // namespace

Variants::Variants(sys::EventLoop &loop, const config::PoolConfig &pool, const config::GlobalConfig &global,
                   status::Scoreboard &scoreboard, const Roster &roster, Children &children, SpawnerLink &spawner)
    : loop_(loop), pool_(pool), global_(global), scoreboard_(scoreboard), roster_(roster), children_(children),
      spawner_(spawner), lines_(loop, pool.name), timer_(loop, [this] { noted_ = true; }) {
  variants_.push_back(std::make_unique<Variant>());
  live_ = 1;
  scoreboard_.set(status::Metric::php_variants, live_);
}

// --- settings -------------------------------------------------------------------------------------------------------

std::optional<VariantNumber> Variants::acquire(const std::string &key, const std::function<Result<sys::Fd>()> &settings,
                                               TimePoint now) {
  for (std::size_t i = 1; i < variants_.size(); ++i)
    tidy(static_cast<VariantNumber>(i), key, now);
  std::size_t number = 0;
  for (std::size_t i = 1; i < variants_.size(); ++i) {
    if (variants_[i] == nullptr) {
      number = number == 0 ? i : number;
      continue;
    }
    if (variants_[i]->key != key)
      continue;
    if (now < variants_[i]->refused_until)
      return std::nullopt;
    ++variants_[i]->users;
    return static_cast<VariantNumber>(i);
  }
  auto fd = settings();
  if (!fd.ok()) {
    sys::log().error("[pool {}] settings of a web server: {}", pool_.name, fd.error().message);
    return std::nullopt;
  }
  if (number == 0) {
    number = variants_.size();
    variants_.emplace_back();
  }
  variants_[number] = std::make_unique<Variant>();
  variants_[number]->key = key;
  variants_[number]->settings = std::move(fd.value());
  variants_[number]->users = 1;
  scoreboard_.set(status::Metric::php_variants, ++live_);
  return static_cast<VariantNumber>(number);
}

bool Variants::release(VariantNumber number, TimePoint now) {
  if (number == 0)
    return false;
  Variant &variant = *variants_[number];
  TQFPM_ASSERT(variant.users > 0);
  --variant.users;
  variant.last_used = now;
  if (variant.users > 0)
    return false;
  tidy(number, "", now);
  return true;
}

// Unless they are those of `key`.
void Variants::tidy(VariantNumber number, const std::string &key, TimePoint now) {
  if (!known(number))
    return;
  const Variant &variant = at(number);
  if (!unused(number) || variant.current != nullptr || variant.delayed ||
      roster_.table().count(WorkerState::kIdle, number) > 0 || now < variant.refused_until || variant.key == key)
    return;
  if (last_used_ == number)
    last_used_ = 0;
  variants_[number].reset();
  scoreboard_.set(status::Metric::php_variants, --live_);
}

// No request needs it and no worker has it but idle ones.
bool Variants::unused(VariantNumber number) const {
  const pool::WorkerTable &table = roster_.table();
  return number != 0 && at(number).users == 0 && table.count(WorkerState::kStarting, number) == 0 &&
         table.occupied(number) == 0 && table.count(WorkerState::kStopping, number) == 0;
}

void Variants::refuse(VariantNumber number, TimePoint now) {
  variants_[number]->refused_until = now + kRefusal;
}

// --- templates ------------------------------------------------------------------------------------------------------

bool Variants::ready(VariantNumber number) const {
  return at(number).current != nullptr && at(number).current->ready();
}

bool Variants::coming(VariantNumber number) const {
  const Variant &variant = at(number);
  return (variant.current != nullptr && !variant.current->ready()) || variant.delayed;
}

// The number of templates beside the pool's own is bounded: the one that was used least recently goes.
std::optional<VariantNumber> Variants::start(VariantNumber number, TimePoint now) {
  if (variants_[number]->current != nullptr || variants_[number]->delayed)
    return 0;
  std::size_t templates = 0;
  VariantNumber oldest = 0;
  for (std::size_t i = 1; i < variants_.size(); ++i) {
    const Variant *each = variants_[i].get();
    if (each == nullptr || each->current == nullptr)
      continue;
    ++templates;
    const auto candidate = static_cast<VariantNumber>(i);
    if (unused(candidate) && (oldest == 0 || each->last_used < at(oldest).last_used))
      oldest = candidate;
  }
  const bool full = number != 0 && templates >= static_cast<std::size_t>(pool_.php_max_variants);
  if (full && oldest == 0)
    return std::nullopt; // the end of a request decides again
  if (full)
    put_away(*variants_[oldest], now);
  launch(number, now);
  return full ? oldest : 0;
}

Duration Variants::start_again(VariantNumber number, TimePoint now) {
  Variant &variant = *variants_[number];
  const Duration delay = variant.failures.failed();
  variant.delayed = now + delay;
  return delay;
}

void Variants::launch(VariantNumber number, TimePoint now) {
  Variant &variant = *variants_[number];
  variant.delayed.reset();
  Template::Ends ends;
  auto made = Template::make(
      loop_, [this] { noted_ = true; }, global_.log_buffering, now, ends);
  if (!made.ok()) {
    if (!std::exchange(short_of_descriptors_, true))
      sys::log().warning("[pool {}] no descriptors for a template: {}; trying again", pool_.name, made.error().message);
    variant.delayed = now + kShortage;
    return;
  }
  short_of_descriptors_ = false;
  variant.current = std::move(made.value());
  variant.order = next_order_++;
  const int fds[] = {ends.control.get(), ends.out.get(), ends.err.get(), variant.settings.get()};
  ipc::SpawnerRequest request{};
  request.kind = ipc::SpawnKind::kTemplate;
  children_.expect();
  // As long as it takes: whenever the process comes somebody has to know it.
  spawner_.ask(
      request, std::span(fds).first(variant.settings.valid() ? 4 : 3),
      [this, number, order = variant.order](const SpawnerAnswer &answer) { answered(number, order, answer); },
      Duration::max());
}

void Variants::answered(VariantNumber number, std::uint32_t order, const SpawnerAnswer &answer) {
  const int pid = answer.ok() ? answer.reply.pid : -1;
  const Children::Claim claim = children_.told(pid);
  const bool alive = claim.ours && !claim.status;
  if (alive)
    children_.add_template(pid);
  noted_ = true;
  Template *current = known(number) && at(number).order == order ? at(number).current.get() : nullptr;
  if (current == nullptr) { // given up long ago
    if (alive)
      leaving_.push_back({pid, TimePoint{}});
  } else if (alive) {
    current->started(pid);
  } else if (claim.status) {
    current->fail(end_text(*claim.status));
  } else {
    current->fail(!answer.ok() ? answer.why
                  : pid > 0    ? "the spawner has told a wrong pid"
                               : spawn_failure(answer.reply, pool_.php_binary));
  }
}

// It ends when its control socket closes, which is when it is destroyed.
void Variants::put_away(Variant &variant, TimePoint now) {
  variant.delayed.reset();
  if (variant.current == nullptr)
    return;
  drain(*variant.current, true, now);
  if (variant.current->pid() > 0)
    leaving_.push_back({variant.current->pid(), now + kEndPatience});
  old_.push_back(std::exchange(variant.current, nullptr));
}

void Variants::renew(VariantNumber number, TimePoint now) {
  if (!ready(number))
    return; // a new one is on its way
  put_away(*variants_[number], now);
  launch(number, now);
}

void Variants::drop_all(TimePoint now) {
  for (const auto &each : variants_) {
    if (each != nullptr)
      put_away(*each, now);
  }
}

void Variants::kill_all() {
  for (const auto &each : variants_) {
    if (each != nullptr && each->current != nullptr && each->current->pid() > 0)
      (void)children_.system().kill(each->current->pid(), SIGKILL);
  }
  for (const Leaving &each : leaving_)
    (void)children_.system().kill(each.pid, SIGKILL);
}

Status Variants::spawn(VariantNumber number, pool::WorkerId id, std::span<const int> fds) {
  TQFPM_ASSERT(ready(number));
  return variants_[number]->current->spawn(id, fds);
}

// --- what has happened ----------------------------------------------------------------------------------------------

void Variants::drain(Template &one, bool at_end, TimePoint now) {
  constexpr std::string_view kWords = "[pool ] php-cgi said: ";
  const auto limit = static_cast<std::size_t>(global_.log_limit);
  const std::size_t used = sys::log().overhead() + pool_.name.size() + kWords.size();
  one.drain(used < limit ? limit - used : 1, at_end, now, [this](const std::string &line) { lines_.add(line); });
  if (const std::uint64_t lines = one.take_suppressed(now, at_end); lines > 0)
    sys::log().warning("[pool {}] {} lines of a template's output were suppressed", pool_.name, lines);
}

bool Variants::step(Variant &variant, Told &told, TimePoint now) {
  if (variant.current == nullptr)
    return false;
  Template &current = *variant.current;
  drain(current, false, now);
  if (!current.next(told.what, now))
    return false;
  told.was_ready = current.was_ready();
  if (told.what.what == TemplateTold::What::kReady) {
    ++variant.batch;
    variant.failures.succeeded();
  } else if (told.what.what == TemplateTold::What::kGone) {
    const int pid = current.pid();
    put_away(variant, now);
    if (pid > 0)
      leaving_.back().killed_at = TimePoint{};
  }
  return true;
}

bool Variants::next(Told &told, TimePoint now) {
  if (!noted_)
    return false;
  for (std::size_t i = 0; i < variants_.size(); ++i) {
    if (variants_[i] == nullptr)
      continue;
    if (variants_[i]->delayed && now >= *variants_[i]->delayed)
      launch(static_cast<VariantNumber>(i), now);
    told.number = static_cast<VariantNumber>(i);
    if (step(*variants_[i], told, now))
      return true;
  }
  end_old(now);
  noted_ = false;
  return false;
}

void Variants::end_old(TimePoint now) {
  for (Leaving &each : leaving_) {
    if (now < each.killed_at)
      continue;
    (void)children_.system().kill(each.pid, SIGKILL);
    each.killed_at = now + kEndPatience;
  }
}

void Variants::ended(pid_t pid, int status) {
  std::erase_if(leaving_, [pid](const Leaving &each) { return each.pid == pid; });
  for (const auto &each : variants_) {
    if (each != nullptr && each->current != nullptr && each->current->pid() == pid)
      each->current->ended(end_text(status), ended_well(status));
  }
  noted_ = true;
}

void Variants::settle(TimePoint now) {
  TimePoint due = TimePoint::max();
  for (const auto &each : variants_) {
    if (each == nullptr)
      continue;
    due = std::min(due, each->delayed.value_or(TimePoint::max()));
    if (each->current != nullptr) {
      each->current->settle();
      due = std::min(due, each->current->due());
    }
  }
  for (const Leaving &each : leaving_)
    due = std::min(due, std::max(each.killed_at, now));
  if (noted_)
    due = now;
  timer_.at(due);
  if (lines_.take_due())
    lines_.say();
  old_.clear();
}

} // namespace tqfpm::workers
