// The sets of PHP settings of a pool, and the templates that have them. Variant 0 is the pool's own; a web server's
// PHP_VALUE and PHP_ADMIN_VALUE make others. With php.spawn = exec there are no templates: then these are settings
// alone.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/backoff.h"
#include "base/result.h"
#include "config/types.h"
#include "ipc/control.h"
#include "pool/worker_table.h"
#include "status/scoreboard.h"
#include "sys/event_loop.h"
#include "sys/fd.h"
#include "workers/children.h"
#include "workers/roster.h"
#include "workers/spawner_link.h"
#include "workers/start_lines.h"
#include "workers/template.h"

namespace tqfpm::workers {

class Variants {
public:
  Variants(sys::EventLoop &loop, const config::PoolConfig &pool, const config::GlobalConfig &global,
           status::Scoreboard &scoreboard, const Roster &roster, Children &children, SpawnerLink &spawner);

  // --- settings
  // See Workers::variant().
  std::optional<pool::VariantNumber> acquire(const std::string &key, const std::function<Result<sys::Fd>()> &settings,
                                             TimePoint now);
  // False: it is still needed. True: others may wait for its template to go.
  bool release(pool::VariantNumber number, TimePoint now);
  // Forgets settings that nobody has and nobody needs.
  void tidy(pool::VariantNumber number, TimePoint now) { tidy(number, "", now); }
  // For the spawner; invalid: the pool's own.
  [[nodiscard]] const sys::Fd &settings(pool::VariantNumber number) const { return at(number).settings; }
  [[nodiscard]] std::size_t live() const { return live_; }
  [[nodiscard]] std::size_t size() const { return variants_.size(); } // numbers below are or were in use
  [[nodiscard]] bool known(pool::VariantNumber number) const {
    return number < variants_.size() && variants_[number] != nullptr;
  }
  // Settings that have just been used. Spare workers are of these.
  void use(pool::VariantNumber number) { last_used_ = number; }
  [[nodiscard]] pool::VariantNumber last_used() const { return last_used_; }
  // The last template did not come up: until then nothing with these settings is tried.
  [[nodiscard]] bool refused(pool::VariantNumber number, TimePoint now) const { return now < at(number).refused_until; }
  void refuse(pool::VariantNumber number, TimePoint now);

  // --- templates
  // Starts one, now or after a delay, if there is none. Where the number of templates is reached, one that is not
  // needed goes; nullopt: all are at work. Else the variant that lost its template, 0: none.
  std::optional<pool::VariantNumber> start(pool::VariantNumber number, TimePoint now);
  // It has gone: another one, after a delay that grows. Returns that delay.
  Duration start_again(pool::VariantNumber number, TimePoint now);
  // A fresh one takes the place of one that is ready. That one ends; its workers go on.
  void renew(pool::VariantNumber number, TimePoint now);
  // Lets all templates go: their control sockets close.
  void drop_all(TimePoint now);
  void kill_all();
  [[nodiscard]] bool ready(pool::VariantNumber number) const;
  // One is there and initialises, or will be started after a delay.
  [[nodiscard]] bool coming(pool::VariantNumber number) const;
  // Counts templates that have become ready: workers of an earlier batch do not share memory with later ones.
  [[nodiscard]] unsigned batch(pool::VariantNumber number) const { return at(number).batch; }
  Status spawn(pool::VariantNumber number, pool::WorkerId id, std::span<const int> fds);

  // --- what has happened
  struct Told {
    pool::VariantNumber number = 0;
    bool was_ready = false; // kGone
    TemplateTold what;
  };
  bool next(Told &told, TimePoint now);
  // A template's process has ended.
  void ended(pid_t pid, int status);
  void settle(TimePoint now);
  StartLines &start_lines() { return lines_; }

private:
  struct Variant {
    std::string key; // tells it from others
    sys::Fd settings;
    std::unique_ptr<Template> current; // none with php.spawn = exec, and when nobody needs it
    std::uint32_t order = 0;           // of it, to the spawner
    unsigned batch = 0;
    std::size_t users = 0;                            // requests that need it
    TimePoint last_used{};                            // when the last of them ended
    Backoff failures{milliseconds(100), seconds(30)}; // of templates that do not come up, or do not stay
    TimePoint refused_until{};                        // see refused()
    std::optional<TimePoint> delayed;                 // when a template is to be started
  };
  [[nodiscard]] const Variant &at(pool::VariantNumber number) const { return *variants_[number]; }
  void tidy(pool::VariantNumber number, const std::string &key, TimePoint now);
  [[nodiscard]] bool unused(pool::VariantNumber number) const;
  void launch(pool::VariantNumber number, TimePoint now);
  void answered(pool::VariantNumber number, std::uint32_t order, const SpawnerAnswer &answer);
  bool step(Variant &variant, Told &told, TimePoint now);
  void drain(Template &one, bool at_end, TimePoint now);
  void put_away(Variant &variant, TimePoint now);
  void end_old(TimePoint now);

  sys::EventLoop &loop_;
  const config::PoolConfig &pool_;
  const config::GlobalConfig &global_;
  status::Scoreboard &scoreboard_;
  const Roster &roster_;
  Children &children_;
  SpawnerLink &spawner_;
  StartLines lines_;
  std::vector<std::unique_ptr<Variant>> variants_; // by number; null: free. The first is the pool's own
  std::vector<std::unique_ptr<Template>> old_;     // destroyed at the end of the round
  struct Leaving {
    pid_t pid;
    TimePoint killed_at; // unless it has ended by then
  };
  std::vector<Leaving> leaving_; // templates that nobody needs any more
  std::size_t live_ = 0;
  pool::VariantNumber last_used_ = 0;
  std::uint32_t next_order_ = 1;
  bool noted_ = false;
  bool short_of_descriptors_ = false; // and it has been said
  sys::TimerWatch timer_;
};

} // namespace tqfpm::workers
