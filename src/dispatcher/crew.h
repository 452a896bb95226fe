// The workers of a pool: starts them, gives them requests, notices their end. What to start and stop is decided by
// pool::ProcessManager; this is the part that acts.
#pragma once

#include <sys/types.h>

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "config/types.h"
#include "dispatcher/backend.h"
#include "dispatcher/slow_log.h"
#include "dispatcher/variant.h"
#include "pool/fault_window.h"
#include "pool/matching.h"
#include "pool/process_manager.h"
#include "pool/recycling.h"
#include "pool/worker_table.h"
#include "spawner/spawner.h"
#include "status/process_board.h"
#include "status/render.h"
#include "status/scoreboard.h"

namespace tqfpm::dispatcher {

// A wait status: "exited with code 3" or "exited on signal 11 (SIGSEGV - core dumped)", php-fpm's words.
std::string end_text(int status);
// A request in php-fpm's words for its log: script 'X' (request: "GET /x").
std::string work_text(const Request &request);
inline constexpr char kClosed[] = "closed its connection"; // it lives, and has not answered
inline constexpr char kTimedOut[] = "timeout";             // how a request was lost: request_terminate_timeout

// What the crew tells the dispatcher. None of these may destroy the crew.
class CrewOwner {
public:
  virtual ~CrewOwner() = default;
  virtual void crew_ready() = 0;                           // once: PHP is up
  virtual void crew_failed(const std::string &reason) = 0; // once, before crew_ready: PHP cannot be started
  virtual void crew_worn_out() = 0;                        // the spawner has gone: a new generation is needed some time
  virtual void crew_changed() = 0;                         // a worker became idle or has gone: decide again
  virtual std::string status_for_worker() = 0;             // what fpm_get_status() returns, see status/worker_status.h
  // PHP does not start with the settings of this variant: nothing that waits for it will be served.
  virtual void variant_failed(pool::VariantNumber variant) = 0;
  // Response records for the client; with scan.ended the request is over.
  virtual void request_response(Request &request, std::string_view records, const fcgi::ResponseScan &scan) = 0;
  virtual void request_returned(Request &request) = 0;                     // no worker has seen it
  virtual void request_lost(Request &request, const std::string &how) = 0; // its worker died
  virtual void php_known(const ipc::PhpFacts &facts) = 0;                  // the pool's php.ini has been read
  virtual void looked(const ipc::SpawnerReply &reply) = 0;                 // to look()
  virtual void spawner_lost() = 0;                                         // nothing will be looked for any more
};

inline constexpr Duration kStartPatience = seconds(30);        // from a worker's start to its first accept()
inline constexpr Duration kReturnPatience = milliseconds(200); // from a closed connection to its end, if it ends

struct CrewSettings {
  bool fork_mode = true;
  Measures measures;
  const config::GlobalConfig &global;
  status::Scoreboard &scoreboard;
  status::ProcessBoard &processes;
};

class Crew : private BackendOwner, private VariantOwner, private SlowLogOwner {
public:
  Crew(sys::EventLoop &loop, CrewOwner &owner, const config::PoolConfig &pool, const CrewSettings &settings,
       spawner::SpawnerProcess spawner);
  ~Crew() override;

  // Starts the template, or in exec mode goes on at once.
  void begin();
  // Who gets which worker, of the requests that wait.
  [[nodiscard]] pool::Match match(const std::list<pool::RequestQueue::Entry> &queue) const;
  // Starts and stops workers as the manager decides, for `queued` requests that still wait and what match() wants for
  // them. `draining`: no spare workers any more.
  void decide(std::size_t queued, const pool::Match &wanted, bool draining);
  [[nodiscard]] std::optional<pool::WorkerId> idle_worker(pool::VariantNumber variant) const {
    return table_.newest_idle(variant);
  }
  // The variant with the settings of `key`; made with a memory file of what `settings` says if it is new. It is kept
  // for the caller until release(). nullopt: PHP has just not started with these settings.
  std::optional<pool::VariantNumber> variant(const std::string &key, const std::function<Result<sys::Fd>()> &settings);
  void release(pool::VariantNumber variant);
  [[nodiscard]] std::size_t variants() const { return live_variants_; }
  // False: the worker has just gone; try another.
  bool assign(Request &request, pool::WorkerId id, std::string head);
  void pump(pool::WorkerId id);
  void abandon(Request &request);
  // SIGCHLD: reaps whatever has ended.
  void reap();
  // Ends all idle workers and each other one after its request; forgets the template.
  void finish();
  void kill_all();
  // Destroys what has ended; call it when no callback of a worker runs.
  void sweep();
  [[nodiscard]] const pool::WorkerTable &table() const { return table_; }
  [[nodiscard]] std::vector<status::WorkerView> view() const; // for the status page
  [[nodiscard]] Backend *find(pool::WorkerId id) const;
  SlowLog &slow_log() { return slow_log_; }
  // Has the spawner look for a script. False: it takes no orders.
  bool look(const ipc::LookRequest &request) { return spawner_.pid > 0 && link_->send(request); }
  [[nodiscard]] bool empty() const { return table_.total() == 0; }

private:
  void worker_response(Backend &backend, std::string_view records, const fcgi::ResponseScan &scan) override;
  void worker_disconnected(Backend &backend, bool returned) override;
  void worker_finished_early(Backend &backend) override;
  void worker_came_back(Backend &backend) override;
  void worker_muttered(Backend &backend, std::string_view text) override;
  void worker_misbehaved(Backend &backend, const char *what) override;

  [[nodiscard]] bool still_runs(pool::WorkerId worker, pool::RequestKey request) const override;
  bool ask_trace(const ipc::SpawnerRequest &request) override { return link_->send(request); }
  void be_ready();

  // templates
  std::uint32_t order_template(Variant &variant, std::span<const int> fds) override;
  std::unique_ptr<WorkerOutput> template_output(sys::Fd pipe) override;
  void template_ready(Variant &variant) override;
  void template_gone(Variant &variant, const std::string &why, bool was_ready) override;
  void spawn_failed(pool::WorkerId id, int error) override;
  [[nodiscard]] std::size_t room_beside(std::size_t words) const;
  void fall_back(const std::string &why);
  void template_said(const std::string &line);
  void say_early_lines();
  Variant &own_variant() { return *variants_.front(); }
  [[nodiscard]] Variant &variant_of(const Backend &backend) const { return *variants_[table_.variant(backend.id())]; }
  [[nodiscard]] bool unused(const Variant &variant) const;
  bool make_room_for_template();
  void tidy(pool::VariantNumber number, const std::string &key);
  // workers
  // False: not now. True also when its template has to come up first.
  bool start_worker(pool::VariantNumber number);
  [[nodiscard]] pool::VariantNumber spare_variant(const pool::Match &wanted) const;
  [[nodiscard]] bool is_new_child(int pid) const;
  Status start_forked(Backend &backend, int out, int err);
  Status start_execed(Backend &backend, int out, int err);
  void start_failed(Backend &backend, const std::string &why);
  void spawner_replied(const ipc::SpawnerReply &reply);
  void template_answered(pool::VariantNumber number, const ipc::SpawnerReply &reply, const std::string &why);
  void worker_answered(pool::WorkerId id, const ipc::SpawnerReply &reply, const std::string &why);
  std::optional<int> take_early_end(int pid);
  void spawner_ended(const std::string &how);
  void channel_readable(pool::WorkerId id);
  void worker_said(Backend &backend, const ipc::WorkerReport &report);
  void send_status(Backend &backend);
  void offer_connection(Backend &backend);
  bool dial(Backend &backend);
  void probe(Backend &backend);
  void now_idle(Backend &backend);
  [[nodiscard]] std::optional<pool::WorkerId> surplus_worker(TimePoint idle_since) const;
  void evict(pool::VariantNumber number);
  void say_limits(const pool::Decision &decision);
  void after_request(Backend &backend);
  bool recycle(Backend &backend);
  void weigh(Backend &backend);
  void weighed(const ipc::SpawnerReply &reply);
  void kill_orphans();
  void stop_worker(Backend &backend, status::Metric why);
  void kill_worker(Backend &backend, status::Metric why);
  void count_fault(const Backend &backend, int status);
  void replace_outdated(const Variant &variant);
  [[nodiscard]] bool outdated(const Backend &backend) const;
  void worker_ended(Backend &backend, int status);
  void log_end(const Backend &backend, int pid, int status);
  void retire(pool::WorkerId id);
  void check_deadlines();
  void check_starting(Backend &backend, TimePoint now);
  void check_stopping(Backend &backend, TimePoint now);
  [[nodiscard]] bool is_cut_off(const Backend &backend) const;
  void check_cut_off(Backend &backend, TimePoint now);
  void check_running(Backend &backend, TimePoint now);
  void arm_deadline(TimePoint when);
  void signal_worker(const Backend &backend, int number);
  struct Outputs {
    sys::Fd out, err; // the worker's ends
  };
  std::optional<Outputs> make_outputs(Backend &backend);
  std::unique_ptr<WorkerOutput> make_output(sys::Fd pipe, pool::WorkerId id, const char *stream);
  [[nodiscard]] pool::PoolCounts counts(std::size_t queued) const;
  void update_gauges();

  sys::EventLoop &loop_;
  CrewOwner &owner_;
  const config::PoolConfig &pool_;
  status::Scoreboard &scoreboard_;
  status::ProcessBoard &processes_;
  std::uint64_t process_max_; // of all pools; 0: no limit
  std::size_t holder_;        // our cell of processes_
  pool::WorkerTable table_;
  pool::ProcessManager manager_;
  pool::Recycling recycling_;
  std::vector<std::unique_ptr<Backend>> backends_; // by slot
  std::vector<std::unique_ptr<Backend>> retired_;  // ended, destroyed when no callback of theirs can run
  std::unordered_map<int, pool::WorkerId> by_pid_;
  // Orders that the spawner has not answered: a worker's, or a template's of that variant.
  struct Order {
    std::optional<pool::WorkerId> worker;
    pool::VariantNumber variant = 0;
  };
  std::unordered_map<std::uint32_t, Order> orders_;
  std::unordered_map<int, int> early_ends_; // of processes whose pid the spawner has perhaps not told yet: status
  std::unordered_set<int> templates_;       // pids, those that have been told to go included
  std::vector<std::unique_ptr<Variant>> variants_;  // by number; null: free. The first is the pool's own
  std::vector<std::unique_ptr<Variant>> forgotten_; // destroyed when the loop turns
  std::size_t live_variants_ = 0;
  pool::VariantNumber last_variant_ = 0; // of the last request that got a worker: spare workers are of that one
  spawner::SpawnerProcess spawner_;
  std::unique_ptr<spawner::SpawnerLink> link_;
  bool fork_mode_;
  std::size_t log_limit_;
  bool log_buffering_;
  Measures measures_;
  pool::FaultWindow faults_;
  bool ready_ = false;
  bool early_ = true;                    // nothing has been served: the log is for the lines of the start
  std::vector<std::string> early_lines_; // of the template, until then
  bool draining_ = false;
  std::size_t queued_ = 0;    // requests that wait, as decide() was told last
  bool orphans_wait_ = false; // to be killed as soon as all children are known
  bool replacing_ = false;    // workers that start take the place of ones that died: worth a NOTICE
  std::uint32_t next_order_ = 1;
  SlowLog slow_log_;
  sys::TimerWatch early_timer_;
  sys::TimerWatch decide_timer_;
  sys::TimerWatch deadline_timer_;
};

} // namespace tqfpm::dispatcher
