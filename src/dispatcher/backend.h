// One php-cgi worker: its connection, the request it has, its output.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "dispatcher/measure.h"
#include "dispatcher/request.h"
#include "dispatcher/worker_output.h"
#include "fcgi/response.h"
#include "status/scoreboard.h"
#include "sys/event_loop.h"
#include "sys/fd.h"

namespace tqfpm::dispatcher {

class Backend;

class BackendOwner {
public:
  virtual ~BackendOwner() = default;
  // Whole response records, ids set for the client. With scan.ended the request's END_REQUEST is the last of them.
  virtual void worker_response(Backend &backend, std::string_view records, const fcgi::ResponseScan &scan) = 0;
  // The connection has gone. A request that was running has not been answered (`returned`: not a byte of it was
  // sent, another worker can have it).
  virtual void worker_disconnected(Backend &backend, bool returned) = 0;
  // fastcgi_finish_request(): the request's answer is complete, what PHP still writes is dropped.
  virtual void worker_finished_early(Backend &backend) = 0;
  // ... and now the script has ended, too.
  virtual void worker_came_back(Backend &backend) = 0;
  // What PHP has logged after that.
  virtual void worker_muttered(Backend &backend, std::string_view text) = 0;
  // The worker sent what php-cgi does not send.
  virtual void worker_misbehaved(Backend &backend, const char *what) = 0;
};

class Backend {
public:
  Backend(sys::EventLoop &loop, BackendOwner &owner, pool::WorkerId id, TimePoint now)
      : loop_(loop), owner_(owner), id_(id), spawned_(now) {}

  [[nodiscard]] pool::WorkerId id() const { return id_; }
  [[nodiscard]] TimePoint spawned() const { return spawned_; }
  // The request it works on; inside worker_response() with scan.ended the one that has just ended.
  [[nodiscard]] Request *request() const { return request_ != nullptr ? request_ : ended_request_; }
  // PHP works on a request, also when nobody waits for its answer any more.
  [[nodiscard]] bool working() const { return request() != nullptr || leftover_; }
  [[nodiscard]] bool connected() const { return connection_.valid(); }

  // Takes a connection on which php-cgi listens (non-blocking).
  void connect(sys::Fd connection);
  void disconnect();
  // Sends a request: `head` is BEGIN_REQUEST and PARAMS; the body is taken from the request.
  void assign(Request &request, std::string head);
  // Sends something that is no request and whose answer frees the worker (php.spawn = exec).
  void probe(std::string record);
  // More of the running request's body is there, or its client has room again.
  void pump();
  // The request is taken away (its client has gone); the connection is closed so that PHP notices.
  void abandon();
  // The request's answer is complete, but the script goes on: what it writes is dropped until its END_REQUEST.
  void let_go();
  // Takes what the worker has sent before it died.
  void drain();

  // Logs what it has written to its standard output and error until now; a partial line is a line.
  void take_output() const;

  // Plain facts, kept by the crew.
  int pid = -1;
  sys::Fd channel; // to the preload library; none with php.spawn = exec
  std::unique_ptr<sys::IoWatch> channel_watch;
  sys::Fd socket_path;                  // php.spawn = exec: O_PATH of the listening socket
  std::unique_ptr<WorkerOutput> output; // none without catch_workers_output
  std::unique_ptr<WorkerOutput> errors;
  bool probing = false;              // php.spawn = exec: FCGI_GET_VALUES is on its way
  std::optional<status::Metric> end; // why it has been told to end, or killed; none: it was not
  unsigned batch = 0;                // of the template that it was forked from
  bool terminated = false;           // request_terminate_timeout: the first signal has been sent
  std::uint64_t served = 0;
  std::uint64_t limit = 0; // requests after which it is replaced; 0: none
  TimePoint work_since{};  // when it got the request that PHP works on, also when the client has gone; none: it is free
  TimePoint weighed{};     // when the spawner was last asked for its memory
  bool overweight = false; // it has more than pm.max_memory
  std::string left_work;   // that request in words, once its client has gone
  WorkerUsage usage;

private:
  void on_events(unsigned events);
  void read();
  bool scan(char *buffer, std::size_t length);
  bool scan_leftover(char *buffer, std::size_t length);
  bool request_ended(const char *buffer, std::size_t length, const fcgi::ResponseScan &scan);
  void write();
  void take_body();
  void lose(bool returned);
  void update_watch();

  sys::EventLoop &loop_;
  BackendOwner &owner_;
  pool::WorkerId id_;
  TimePoint spawned_;
  Request *request_ = nullptr;
  Request *ended_request_ = nullptr;
  sys::Fd connection_;
  std::unique_ptr<sys::IoWatch> watch_; // after connection_
  std::string tail_;                    // an incomplete record
  std::string upstream_;                // bytes for the worker, from written_ on
  std::size_t written_ = 0;
  std::size_t head_size_ = 0;       // of upstream_, before the body
  std::uint64_t total_written_ = 0; // of this request
  bool leftover_ = false;           // let_go() was called, and END_REQUEST has not come
  bool paused_ = false;             // the client takes nothing at the moment
};

} // namespace tqfpm::dispatcher
