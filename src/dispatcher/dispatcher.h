// The process of one pool: accepts web servers, queues requests, owns the workers.
#pragma once

#include <cstdint>
#include <ctime>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include "config/load.h"
#include "config/web_values.h"
#include "dispatcher/client.h"
#include "dispatcher/crew.h"
#include "dispatcher/doorman.h"
#include "dispatcher/local_pages.h"
#include "dispatcher/php_output.h"
#include "dispatcher/scripts.h"
#include "ipc/control.h"
#include "pool/request_queue.h"
#include "status/access_format.h"
#include "status/worker_status.h"
#include "sys/event_loop.h"
#include "sys/log_sink.h"
#include "sys/shared_memory.h"

namespace tqfpm::dispatcher {

// What `tqfpm --dispatcher` is started with, besides the descriptors of ipc::DispatcherFd.
struct DispatcherStart {
  config::Config config; // [global] and one pool
  spawner::PhpOptions php;
  std::vector<std::string> folders;      // in the root of what workers see, for spawner::php_command()
  std::optional<sys::Identity> own_user; // the dispatcher's; none when not root
};

class Dispatcher : private ClientOwner, private CrewOwner, private ScriptsOwner {
public:
  Dispatcher(sys::EventLoop &loop, const DispatcherStart &start, spawner::SpawnerProcess spawner, bool fork_mode,
             sys::Mapping scoreboard, sys::Mapping processes);
  ~Dispatcher() override;
  // Runs until the master says stop, or all is drained. The exit code.
  int run();

private:
  // ClientOwner
  bool request_received(Request &request) override;
  void request_ready(Request &request) override;
  void request_body(Request &request) override;
  void request_abandoned(Request &request) override;
  void client_has_room(Request &request) override;
  void client_closed(Client &client) override;
  void client_lingers(Client &client) override;
  void client_idle(Client &client) override;
  pool::RequestKey next_key() override { return next_key_++; }
  void protocol_error() override { board().add(status::Metric::protocol_errors); }
  // CrewOwner
  void crew_ready() override;
  void crew_failed(const std::string &reason) override;
  void crew_worn_out() override;
  void crew_changed() override;
  void variant_failed(pool::VariantNumber variant) override;
  std::string status_for_worker() override { return status::fpm_status(state(true, false)); }
  void request_response(Request &request, std::string_view records, const fcgi::ResponseScan &scan) override;
  void request_returned(Request &request) override;
  void request_lost(Request &request, const std::string &how) override;
  void php_known(const ipc::PhpFacts &facts) override { scripts_.learn(facts); }
  void looked(const ipc::SpawnerReply &reply) override { scripts_.answered(reply); }
  void spawner_lost() override { scripts_.spawner_gone(); }
  // ScriptsOwner
  bool ask_look(const ipc::LookRequest &request) override { return crew_.look(request); }
  void script_refused(Request &request, const LocalAnswer &page) override;
  void script_ready(Request &request) override;

  // accepting
  void listen_to(const sys::Fd &listener, std::unique_ptr<sys::IoWatch> &watch, const ClientSettings &settings);
  void accept_clients(const sys::Fd &listener, sys::IoWatch &watch, const ClientSettings &settings);
  void accepted(sys::Fd fd, const std::string &peer, const ClientSettings &settings);
  // requests
  void schedule();
  void expire();
  void start_queued(pool::RequestKey key, pool::VariantNumber variant);
  struct WebSettings {
    config::WebValues values;
    std::string key;
  };
  // What the web server has set, read once for each text; null: nothing.
  const WebSettings *web_settings(const Request &request);
  bool refuse_settings(Request &request, const WebSettings &settings);
  bool choose_variant(Request &request);
  bool start(Request &request, pool::WorkerId id);
  std::string head_of(Request &request, TimePoint now) const;
  void answer(Request &request, const LocalAnswer &page);
  [[nodiscard]] bool may_retry(const Request &request, const std::string &how) const;
  void retry(Request &request);
  void done(Request &request);
  void forget_key(const Request &request) { by_key_.erase(request.key); }
  // life
  void control_readable();
  void obey(const ipc::MasterRequest &request, std::vector<sys::Fd> fds);
  void report(ipc::DispatcherMessage type, const std::string &text);
  void open_logs();
  void reopen(std::uint32_t mask, std::vector<sys::Fd> fds);
  void drain(sys::Fd handover, TimePoint deadline);
  void adopt(sys::Fd handover);
  struct Heir { // to the connections of a generation before
    sys::Fd from;
    std::unique_ptr<sys::IoWatch> watch; // after from
  };
  void adopt_clients(Heir &heir);
  void hand_over(Client &client);
  void fast_stop(int code);
  void finish_if_drained();
  void before_wait();
  void housekeeping();
  status::Scoreboard &board() { return *static_cast<status::Scoreboard *>(scoreboard_.data()); }
  status::PoolState state(bool with_workers, bool counts_itself);
  bool answer_by_itself(Request &request);

  sys::EventLoop &loop_;
  const config::GlobalConfig &global_;
  const config::PoolConfig &pool_;
  sys::Mapping scoreboard_;
  sys::Mapping processes_;
  ClientSettings client_settings_;
  ClientSettings status_client_settings_;
  PhpOutput php_output_;
  Doorman doorman_;
  status::AccessFormat access_format_;
  sys::LogSink access_log_;
  std::unordered_map<std::uint64_t, std::unique_ptr<Client>> clients_;
  std::vector<std::uint64_t> dead_clients_;
  std::vector<std::pair<TimePoint, std::uint64_t>> lingering_; // when to close
  std::unordered_map<pool::RequestKey, Request *> by_key_;     // queued requests
  pool::RequestQueue queue_;
  std::uint64_t next_client_ = 1;
  pool::RequestKey next_key_ = 1;
  std::string tag_prefix_;
  const config::Config &config_;
  std::unordered_map<std::string, WebSettings> web_settings_; // by the texts of the parameters
  bool locked_values_;                                        // scripts must be below one of folders_
  TimePoint started_;
  std::time_t start_time_;
  bool draining_ = false;
  bool stopping_ = false;
  bool scheduling_ = false;
  int exit_code_ = 0;
  sys::Fd listen_;
  sys::Fd status_listen_;
  sys::Fd control_;
  sys::Fd handover_out_; // draining: idle connections go to the next generation
  std::vector<std::unique_ptr<Heir>> heirs_;
  std::unique_ptr<sys::IoWatch> listen_watch_;
  std::unique_ptr<sys::IoWatch> status_listen_watch_;
  std::unique_ptr<sys::IoWatch> control_watch_;
  std::vector<std::unique_ptr<sys::SignalWatch>> signals_;
  sys::TimerWatch queue_timer_;
  sys::TimerWatch drain_timer_;
  sys::TimerWatch housekeeping_timer_;
  Crew crew_;
  Scripts scripts_;
};

// The role `tqfpm --dispatcher`; returns the exit code.
int dispatcher_main(const spawner::PhpOptions &php);

} // namespace tqfpm::dispatcher
