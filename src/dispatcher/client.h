// One connection of a web server: receives requests, sends what they answer.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "dispatcher/request.h"
#include "fcgi/session.h"
#include "sys/event_loop.h"
#include "sys/fd.h"

namespace tqfpm::dispatcher {

class Client;

// What a client needs from the dispatcher. None of these destroys the client at once.
class ClientOwner {
public:
  virtual ~ClientOwner() = default;
  // Parameters are complete. The request may be answered at once (then true: nothing more is wanted of it).
  virtual bool request_received(Request &request) = 0;
  // The request can be given to a worker: its body is complete or fills its buffer.
  virtual void request_ready(Request &request) = 0;
  // More of the body of a running request is in request.body.
  virtual void request_body(Request &request) = 0;
  // The client has gone or aborted; the request is destroyed after the call.
  virtual void request_abandoned(Request &request) = 0;
  // What was held back for the client has been sent: its workers may go on.
  virtual void client_has_room(Request &request) = 0;
  // The connection is finished; destroy the client when no callback of it runs.
  virtual void client_closed(Client &client) = 0;
  // The client is lingering(): close() it after some seconds.
  virtual void client_lingers(Client &client) = 0;
  // The client has no request and no bytes pending.
  virtual void client_idle(Client &client) = 0;
  virtual pool::RequestKey next_key() = 0;
  virtual void protocol_error() = 0; // to be counted
};

struct ClientSettings {
  std::string pool;
  std::size_t request_buffer = 1U << 20;  // body bytes held for a worker
  std::size_t response_buffer = 1U << 20; // response bytes held for a client
  std::size_t advertised = 1;             // FCGI_MAX_CONNS
  std::uint64_t max_body = 0;             // 0: no limit
  bool status_only = false;               // pm.status_listen
};

class Client : private fcgi::SessionHandler {
public:
  Client(sys::EventLoop &loop, ClientOwner &owner, const ClientSettings &settings, std::uint64_t key, sys::Fd fd,
         std::string peer);
  ~Client() override;

  [[nodiscard]] std::uint64_t key() const { return key_; }
  [[nodiscard]] const std::string &peer() const { return peer_; }
  [[nodiscard]] bool open() const { return fd_.valid(); }
  // Nothing is in progress: the connection can be closed or handed over without loss.
  [[nodiscard]] bool idle() const;
  // Reads what is there now; called once after accept and then by the loop.
  void read();
  // Response records of a request, whole ones, ids set. Bytes that cannot be sent now are kept.
  void send(std::string_view records);
  // Has the peer gone? For a connection that is not read at the moment.
  [[nodiscard]] bool gone() const;
  [[nodiscard]] bool congested() const { return out_.size() - out_sent_ >= settings_.response_buffer; }
  // Ends a request: with `end_record` appends END_REQUEST. The request is destroyed.
  void finish(Request &request, bool end_record);
  // The response cannot be completed: the connection is cut so that the web server sees it.
  void cut(Request &request);
  void close();
  [[nodiscard]] int fd() const { return fd_.get(); }
  [[nodiscard]] bool status_only() const { return settings_.status_only; }
  // Answered before the whole body had come: reads on and drops it, so that the answer is not lost in a reset.
  [[nodiscard]] bool lingering() const { return lingering_; }
  // A worker has taken body bytes: the client may send more.
  void resume() { update_watch(); }
  [[nodiscard]] const std::vector<std::unique_ptr<Request>> &requests() const { return requests_; }

private:
  void on_params(std::uint16_t id, fcgi::Role role, bool keep, std::string content) override;
  void on_body(std::uint16_t id, std::string_view data, bool last) override;
  void on_abort(std::uint16_t id) override;
  void on_reply(std::string_view bytes) override;

  void on_events(unsigned events);
  bool consume(std::string_view bytes);
  void refuse(const std::string &why);
  void at_end_of_file();
  void flush();
  void body_finished(Request &request);
  void end_of_output();
  void discard();
  void update_watch();
  void abandon_all();
  Request *find(std::uint16_t id);
  void remove(const Request &request);
  [[nodiscard]] bool body_is_held() const;

  ClientOwner &owner_;
  const ClientSettings &settings_;
  std::uint64_t key_;
  sys::Fd fd_;
  std::string peer_;
  fcgi::Session session_;
  std::vector<std::unique_ptr<Request>> requests_;
  std::string in_;  // bytes of an incomplete record
  std::string out_; // bytes not sent yet, from out_sent_ on
  std::size_t out_sent_ = 0;
  bool half_closed_ = false;     // the peer sends nothing more
  bool close_when_sent_ = false; // FCGI_KEEP_CONN was not set
  bool unread_body_ = false;     // a request was answered before its body had come
  bool lingering_ = false;
  bool reported_ = false; // client_closed has been called
  sys::IoWatch watch_;    // after fd_
};

} // namespace tqfpm::dispatcher
