// The crew's templates: one for each set of PHP settings.
#include <algorithm>
#include <cstring>

#include "dispatcher/crew.h"
#include "sys/log.h"

namespace tqfpm::dispatcher {

using pool::WorkerState;
using status::Metric;

namespace {

constexpr Duration kRefusal = seconds(5); // how long settings that PHP did not start with are not tried again

constexpr Duration kEarly = seconds(2); // from this pool's readiness until surely all of them are

} // namespace

std::uint32_t Crew::order_template(Variant &variant, std::span<const int> fds) {
  const std::uint32_t order = next_order_++;
  if (!link_->send(ipc::SpawnKind::kTemplate, order, fds))
    return 0;
  orders_[order] = Order{std::nullopt, variant.number()};
  return order;
}

std::unique_ptr<WorkerOutput> Crew::template_output(sys::Fd pipe) {
  const std::size_t words = pool_.name.size() + std::string_view("[pool ] php-cgi said: ").size();
  return std::make_unique<WorkerOutput>(
      loop_, std::move(pipe), log_buffering_, [this, words] { return room_beside(words); },
      [this](const std::string &line) { template_said(line); });
}

// What PHP says while it starts comes in the log after the lines of tqfpm's own start, as with php-fpm, whose workers
// start later; at once if it does not start.
void Crew::template_said(const std::string &line) {
  constexpr std::size_t kLines = 1000;
  if (early_ && early_lines_.size() < kLines) {
    early_lines_.push_back(line);
    return;
  }
  // The settings were written for php-fpm: php-cgi has some of its extensions built in.
  if (line.find(" is already loaded") != std::string::npos)
    sys::log().debug("[pool {}] php-cgi said: {}", pool_.name, line);
  else
    sys::log().warning("[pool {}] php-cgi said: {}", pool_.name, line);
}

void Crew::say_early_lines() {
  early_ = false;
  early_timer_.stop();
  for (const std::string &line : std::exchange(early_lines_, {}))
    template_said(line);
}

// When the first worker is idle, so that the first request does not wait for one; or cannot be had, which is said and
// tried again.
void Crew::be_ready() {
  if (std::exchange(ready_, true))
    return;
  early_timer_.at(Clock::now() + kEarly);
  owner_.crew_ready();
}

void Crew::template_ready(Variant &variant) {
  if (variant.number() == 0)
    owner_.php_known(variant.facts());
  if (pool_.pm == config::ProcessManagerKind::kOnDemand)
    be_ready();
  replace_outdated(variant);
  owner_.crew_changed();
}

void Crew::spawn_failed(pool::WorkerId id, int error) {
  Backend *backend = find(id);
  if (backend != nullptr && table_.state(id) == WorkerState::kStarting && backend->pid < 0)
    start_failed(*backend, fmt::format("cannot fork: {}", strerror(error)));
}

// A template of the pool's own settings has to be there always; one of others when it is needed again.
void Crew::template_gone(Variant &variant, const std::string &why, bool was_ready) {
  say_early_lines();
  if (draining_ && queued_ == 0)
    return;
  if (variant.number() != 0) {
    sys::log().warning("[pool {}] the template for settings of a web server {} ({}); workers go on", pool_.name,
                       was_ready ? "has gone" : "does not start", why);
    if (!was_ready) {
      variant.refused_until = Clock::now() + kRefusal;
      owner_.variant_failed(variant.number());
    }
    owner_.crew_changed();
    return;
  }
  if (!was_ready && !ready_) {
    fall_back(why);
    return;
  }
  const Duration delay = std::min<Duration>(milliseconds(100) * (1U << std::min(variant.failures, 8U)), seconds(30));
  ++variant.failures;
  sys::log().warning("[pool {}] the template has gone ({}), starting another one in {} ms; workers go on", pool_.name,
                     why, std::chrono::duration_cast<milliseconds>(delay).count());
  variant.start(delay);
}

void Crew::fall_back(const std::string &why) {
  if (!pool_.chroot.empty()) {
    owner_.crew_failed("the template does not start (" + why +
                       "), and chroot needs it; see the messages of php-cgi above");
    return;
  }
  sys::log().notice("[pool {}] the template does not start ({}): falling back to php.spawn = exec, without OPcache and "
                    "APCu shared between workers",
                    pool_.name, why);
  fork_mode_ = false;
  begin();
}

// Idle workers of former templates end, others after their requests: the pool shares one OPcache again.
void Crew::replace_outdated(const Variant &variant) {
  for (std::size_t i = 0; i < backends_.size(); ++i) {
    const auto id = table_.at(i);
    if (id && table_.variant(*id) == variant.number() && table_.state(*id) == WorkerState::kIdle &&
        outdated(*backends_[i]))
      stop_worker(*backends_[i], Metric::ended_renewed);
  }
}

// --- settings of web servers ----------------------------------------------------------------------------------------

std::optional<pool::VariantNumber> Crew::variant(const std::string &key,
                                                 const std::function<Result<sys::Fd>()> &settings) {
  for (std::size_t i = 1; i < variants_.size(); ++i)
    tidy(static_cast<pool::VariantNumber>(i), key);
  for (const auto &each : variants_) {
    if (each == nullptr || each->number() == 0 || each->key() != key)
      continue;
    if (Clock::now() < each->refused_until)
      return std::nullopt;
    ++each->users;
    return each->number();
  }
  auto fd = settings();
  if (!fd.ok()) {
    sys::log().error("[pool {}] settings of a web server: {}", pool_.name, fd.error().message);
    return std::nullopt;
  }
  std::size_t number = 1;
  while (number < variants_.size() && variants_[number] != nullptr)
    ++number;
  if (number == variants_.size())
    variants_.emplace_back();
  const auto as_number = static_cast<pool::VariantNumber>(number);
  variants_[number] =
      std::make_unique<Variant>(loop_, static_cast<VariantOwner &>(*this), as_number, key, std::move(fd.value()));
  variants_[number]->users = 1;
  scoreboard_.set(Metric::php_variants, ++live_variants_);
  return as_number;
}

void Crew::release(pool::VariantNumber number) {
  if (number == 0)
    return;
  --variants_[number]->users;
  variants_[number]->last_used = Clock::now();
  if (variants_[number]->users == 0)
    decide_timer_.at(Clock::now()); // others may wait for its template to go
  tidy(number, "");
}

// Forgets settings that nobody has and nobody needs, unless they are those of `key`.
void Crew::tidy(pool::VariantNumber number, const std::string &key) {
  const Variant *variant = variants_[number].get();
  if (variant == nullptr || !unused(*variant) || variant->has_template() || variant->coming() ||
      table_.count(WorkerState::kIdle, number) > 0 || Clock::now() < variant->refused_until || variant->key() == key)
    return;
  if (last_variant_ == number)
    last_variant_ = 0;
  forgotten_.push_back(std::exchange(variants_[number], nullptr));
  scoreboard_.set(Metric::php_variants, --live_variants_);
}

// No request needs it and no worker has it but idle ones.
bool Crew::unused(const Variant &variant) const {
  const auto count = [&](WorkerState state) { return table_.count(state, variant.number()); };
  return variant.number() != 0 && variant.users == 0 && count(WorkerState::kStarting) == 0 &&
         count(WorkerState::kBusy) == 0 && count(WorkerState::kAborting) == 0 && count(WorkerState::kStopping) == 0;
}

// The number of templates is bounded: the one that was used least recently goes, with its idle workers.
bool Crew::make_room_for_template() {
  std::size_t templates = 0;
  Variant *oldest = nullptr;
  for (const auto &each : variants_) {
    if (each == nullptr || each->number() == 0 || !each->has_template())
      continue;
    ++templates;
    if (unused(*each) && (oldest == nullptr || each->last_used < oldest->last_used))
      oldest = each.get();
  }
  if (templates < static_cast<std::size_t>(pool_.php_max_variants))
    return true;
  if (oldest == nullptr)
    return false; // all are at work; the end of a request decides again
  const pool::VariantNumber number = oldest->number();
  oldest->drop();
  while (const auto idle = table_.newest_idle(number))
    stop_worker(*backends_[idle->index], Metric::ended_settings);
  tidy(number, ""); // or later, when its workers have gone
  return true;
}

} // namespace tqfpm::dispatcher
