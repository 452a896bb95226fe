// Everything of the dispatcher's process but its sockets to the master: clients, requests and workers in rounds, with
// fake peers on both sides, a fake loop and a clock that the test moves.
#pragma once

#include <gtest/gtest.h>
#include <sys/un.h>

#include <memory>
#include <string>
#include <vector>

#include "dispatcher/round.h"
#include "fake_workers.h"
#include "web_server.h"

namespace tqfpm::test {

class FakeDispatcher {
public:
  FakeDispatcher() { peers.decides = false; }

  // After peers.pool has been changed.
  void open() {
    config::PoolConfig &pool = peers.pool;
    pool.queue_max_length = 1000;
    config.pools = {pool};
    peers.open();
    workers::Workers &workers = *peers.workers;
    front = std::make_unique<web::Front>(peers.loop.loop, web::FrontSettings{config.pools.front(), board(), 1000, 10});
    access_log = std::make_unique<dispatcher::AccessLog>(peers.loop.loop, config.pools.front(), board());
    requests = std::make_unique<dispatcher::Requests>(
        peers.loop.loop, dispatcher::Requests::Parts{config, php, folders, board(), *front, workers}, *access_log);
    round = std::make_unique<dispatcher::Round>(*front, workers, *requests);
    listen();
  }
  void listen() {
    sys::Fd listener(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    const sa_family_t family = AF_UNIX; // a name of the kernel's
    ASSERT_EQ(::bind(listener.get(), reinterpret_cast<const sockaddr *>(&family), sizeof family), 0);
    ASSERT_EQ(::listen(listener.get(), 200), 0);
    length_ = sizeof address_;
    ASSERT_EQ(::getsockname(listener.get(), reinterpret_cast<sockaddr *>(&address_), &length_), 0);
    front->listen(std::move(listener), sys::Fd());
  }
  std::unique_ptr<WebServer> connect() {
    sys::Fd fd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    EXPECT_EQ(::connect(fd.get(), reinterpret_cast<const sockaddr *>(&address_), length_), 0);
    return std::make_unique<WebServer>(std::move(fd));
  }

  // One turn of the loop.
  bool turn() {
    const bool any = peers.loop.engine.turn();
    if (!peers.processes.ends.empty())
      peers.workers->note_children();
    const TimePoint now = peers.loop.engine.now();
    workers::Event event;
    while (round->next(event, now)) {
      if (event.kind == workers::Event::Kind::kWantsStatus)
        peers.workers->send_status(event.worker, "status");
      else if (event.kind == workers::Event::Kind::kVariantFailed)
        requests->variant_failed(event.variant, now);
      else if (event.kind == workers::Event::Kind::kFacts)
        requests->learn(event.facts);
    }
    round->settle(now);
    return any;
  }
  void wait(Duration time) {
    peers.loop.engine.advance(time);
    turn();
  }
  status::Scoreboard &board() { return *static_cast<status::Scoreboard *>(peers.board.data()); }

  FakePool peers;
  config::Config config;
  spawner::PhpOptions php;
  std::vector<std::string> folders;
  std::unique_ptr<web::Front> front;
  std::unique_ptr<dispatcher::AccessLog> access_log;
  std::unique_ptr<dispatcher::Requests> requests;
  std::unique_ptr<dispatcher::Round> round;

private:
  sockaddr_un address_{};
  socklen_t length_ = 0;
};

} // namespace tqfpm::test
