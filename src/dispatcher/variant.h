// One set of PHP settings of a pool, and the template that has them. Variant 0 is the pool's own; a web server's
// PHP_VALUE and PHP_ADMIN_VALUE make others. With php.spawn = exec there are no templates: then this is the settings
// alone.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>

#include "base/result.h"
#include "dispatcher/worker_output.h"
#include "ipc/control.h"
#include "pool/worker_table.h"
#include "sys/event_loop.h"
#include "sys/fd.h"

namespace tqfpm::dispatcher {

class Variant;

class VariantOwner {
public:
  virtual ~VariantOwner() = default;
  // Orders a template from the spawner: control, stdout, stderr and perhaps settings. The id of the order, 0 with errno
  // when the spawner takes none. The answer goes to Variant::answered().
  virtual std::uint32_t order_template(Variant &variant, std::span<const int> fds) = 0;
  virtual std::unique_ptr<WorkerOutput> template_output(sys::Fd pipe) = 0;
  virtual void template_ready(Variant &variant) = 0;
  // It did not come up, or has gone; workers that it has forked are not concerned. The owner may start() another one.
  virtual void template_gone(Variant &variant, const std::string &why, bool was_ready) = 0;
  virtual void spawn_failed(pool::WorkerId id, int error) = 0;
};

class Variant {
public:
  // `settings`: memory file for the spawner (ipc::SpawnerRequest); invalid: the pool's own. `key` tells it from others.
  Variant(sys::EventLoop &loop, VariantOwner &owner, pool::VariantNumber number, std::string key, sys::Fd settings);

  [[nodiscard]] pool::VariantNumber number() const { return number_; }
  [[nodiscard]] const std::string &key() const { return key_; }
  [[nodiscard]] const sys::Fd &settings() const { return settings_; }

  [[nodiscard]] bool has_template() const { return template_ != nullptr; }
  [[nodiscard]] bool ready() const { return template_ != nullptr && template_->ready; }
  // One is there and initialises, or will be started after a delay.
  [[nodiscard]] bool coming() const { return (template_ != nullptr && !template_->ready) || delayed_; }
  // Counts templates that have become ready: workers of an earlier batch do not share memory with later ones.
  [[nodiscard]] unsigned batch() const { return batch_; }
  // What the newest one that has become ready has read in php.ini.
  [[nodiscard]] const ipc::PhpFacts &facts() const { return facts_; }
  [[nodiscard]] bool is_template(int pid) const { return template_ != nullptr && template_->pid == pid; }

  void start(Duration delay = Duration::zero());
  // A fresh one takes the place of the one that is ready. That one ends; its workers go on.
  void renew();
  // Lets the template go.
  void drop();
  // Destroys what was replaced; call it when no callback of it runs.
  void sweep() { old_.reset(); }
  // The spawner's answer to the order `id`: a pid, or why there is none. False: nobody waits for it any more.
  bool answered(std::uint32_t id, int pid, const std::string &why);
  void ended(const std::string &how) { gone(how); }
  // Has it fork a worker that gets these descriptors: channel, stdout, stderr.
  Status spawn(pool::WorkerId id, std::span<const int> fds);

  // Plain facts, kept by the owner.
  std::size_t users = 0;     // requests that need it
  TimePoint last_used{};     // when the last of them ended
  unsigned failures = 0;     // templates in a row that did not come up or did not stay
  TimePoint refused_until{}; // the last one did not come up: its requests are refused until then

private:
  struct Template {
    sys::Fd control;
    std::uint32_t order = 0;
    int pid = -1;
    bool loaded = false; // the library runs in it
    bool ready = false;
    std::unique_ptr<WorkerOutput> output;
    std::unique_ptr<WorkerOutput> errors;
    std::unique_ptr<sys::IoWatch> watch; // after control
  };
  void launch();
  void readable();
  void heard(const ipc::TemplateReply &reply);
  void due();
  void put_away();
  void gone(const std::string &why);

  sys::EventLoop &loop_;
  VariantOwner &owner_;
  pool::VariantNumber number_;
  std::string key_;
  sys::Fd settings_;
  std::unique_ptr<Template> template_;
  std::unique_ptr<Template> old_; // the one before, until the loop turns
  unsigned batch_ = 0;
  ipc::PhpFacts facts_{0, ipc::kFixPathInfo};
  bool delayed_ = false;
  sys::TimerWatch timer_; // until the template must be ready, or until one is started
};

} // namespace tqfpm::dispatcher
