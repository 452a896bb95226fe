// Thousands of short lives of random web servers and random, hostile workers. Whatever they do: each request ends
// exactly once, none belongs to a worker that has gone, none is held by nobody, memory and descriptors stay within
// their bounds, counters sum, and when the peers fall silent everything comes to rest. Who behaves is answered.
//
// TQFPM_MODEL_SEED=N and TQFPM_MODEL_LIVES=N run other lives.
#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <iostream>
#include <map>
#include <random>
#include <set>

#include "fake_dispatcher.h"

namespace tqfpm::dispatcher {
namespace {

using pool::RequestState;
using pool::WorkerState;
using status::Metric;
using test::body;
using test::head;
using test::record;
using test::request;

constexpr std::size_t kBuffer = 20000;
constexpr std::size_t kMemory = 1U << 20;

unsigned number_of(const char *variable, unsigned otherwise) {
  const char *text = std::getenv(variable);
  return text != nullptr ? static_cast<unsigned>(std::atoi(text)) : otherwise;
}

// A web server and what it does with its connection.
struct Visitor {
  std::unique_ptr<test::WebServer> server;
  std::string wire;     // still to be sent
  std::size_t sent = 0; // whole requests that it will have sent
  bool behaves = true;  // speaks FastCGI, sends everything, reads everything, and stays
  bool reads = true;
  bool half_closes = false;
  bool half_closed = false;
};

class Model {
public:
  explicit Model(unsigned seed) : random_(seed) {
    config::PoolConfig &pool = one_.peers.pool;
    pool.pm = seed % 3 == 0   ? config::ProcessManagerKind::kOnDemand
              : seed % 3 == 1 ? config::ProcessManagerKind::kStatic
                              : config::ProcessManagerKind::kDynamic;
    pool.pm_max_children = 1 + seed % 4;
    pool.pm_max_spawn_rate = 32;
    pool.pm_start_servers = pool.pm_min_spare_servers = pool.pm_max_spare_servers = 1;
    pool.request_terminate_timeout = seconds(3);
    pool.request_terminate_grace = seconds(1);
    pool.request_slowlog_timeout = seconds(1);
    pool.pm_max_requests = static_cast<std::int64_t>(seed % 4) * 5;
    pool.request_retry = seed % 2 == 1;
    pool.request_buffer_size.value = pool.response_buffer_size.value = kBuffer;
    pool.memory_buffers.value = kMemory;
    pool.client_header_timeout = pool.client_body_timeout = pool.client_send_timeout = seconds(600);
    pool.queue_max_wait = seconds(600);
    one_.open();
    descriptors_ = open_descriptors();
  }

  // Chaos, then calm: who behaves gets his answers. Then silence: all comes to rest.
  void live(int turns) {
    for (int i = 0; i < turns && !::testing::Test::HasFailure(); ++i) {
      if (visitors_.size() < 12 && chance(4))
        visit();
      step(true);
    }
    calm_ = true;
    for (int i = 0; i < 4000 && !all_answered() && !::testing::Test::HasFailure(); ++i) {
      if (i > 300)
        one_.peers.loop.engine.advance(milliseconds(50)); // workers that were killed, delays
      step(false);
    }
    for (const Visitor &each : visitors_) {
      if (each.behaves && !each.server->ended) {
        EXPECT_EQ(each.server->answers.ends, each.sent) << "of a web server that behaves; unsent " << each.wire.size();
      }
    }
    if (::testing::Test::HasFailure())
      explain();
    rest();
  }
  [[nodiscard]] std::uint64_t ended() { return one_.board().get(Metric::requests); }

private:
  // For who has to find out why.
  void explain() {
    const pool::WorkerTable &table = one_.peers.workers->table();
    for (std::size_t i = 0; i < pool::kWorkerStates; ++i)
      std::cerr << "workers in state " << i << ": " << table.count(static_cast<WorkerState>(i)) << "\n";
    constexpr std::size_t kTail = 3000;
    const std::string log = one_.peers.log.text();
    std::cerr << "templates: " << templates_.size() << " connections: " << one_.front->connections() << "\n";
    std::cerr << "requests that wait: " << one_.requests->waiting() << "\n"
              << log.substr(log.size() - std::min<std::size_t>(log.size(), kTail));
  }
  bool chance(unsigned of) { return random_() % of == 0; }
  std::size_t pick(std::size_t of) { return random_() % of; }
  static std::size_t open_descriptors() {
    std::size_t count = 0;
    for ([[maybe_unused]] const auto &each : std::filesystem::directory_iterator("/proc/self/fd"))
      ++count;
    return count;
  }

  // --- web servers
  void visit() {
    Visitor made;
    made.server = one_.connect();
    const std::size_t count = 1 + pick(4);
    const bool one_id = chance(2);
    for (std::size_t i = 0; i < count; ++i) {
      const auto id = static_cast<std::uint16_t>(one_id ? 1 : i + 1);
      const bool keep = i + 1 < count || chance(2);
      const std::string content(chance(3) ? pick(5 * kBuffer) : pick(100), 'x');
      made.wire += request(id, keep, content);
      ++made.sent;
    }
    if (chance(3))
      misbehave(made);
    made.half_closes = chance(4);
    visitors_.push_back(std::move(made));
  }
  void misbehave(Visitor &visitor) {
    visitor.behaves = false;
    switch (pick(6)) {
    case 0: // a part of it
      visitor.wire.resize(pick(visitor.wire.size()));
      return;
    case 1: // spoiled
      for (std::size_t i = 0; i < 3; ++i)
        visitor.wire[pick(visitor.wire.size())] = static_cast<char>(random_());
      return;
    case 2:
      visitor.wire += record(fcgi::RecordType::kAbortRequest, 1, "");
      return;
    case 3: // a body that stops
      visitor.wire += head(9, true, {{"CONTENT_LENGTH", "100000"}, {"SCRIPT_FILENAME", "/x.php"}}) +
                      body(9, std::string(pick(3 * kBuffer), 'y'), false);
      return;
    case 4:
      for (std::size_t i = 0; i < 500; ++i)
        visitor.wire += record(static_cast<fcgi::RecordType>(77), 0, "");
      return;
    default:
      visitor.reads = false;
      return;
    }
  }
  void act(Visitor &visitor) {
    test::WebServer &server = *visitor.server;
    if (!server.open())
      return;
    if (!visitor.wire.empty() && (calm_ || chance(2))) {
      const std::size_t length = std::min(visitor.wire.size(), 1 + pick(calm_ || chance(3) ? 3 * kBuffer : 50));
      server.send(visitor.wire.substr(0, length));
      visitor.wire.erase(0, length);
    }
    server.send();
    if (visitor.wire.empty() && server.unsent() == 0 && visitor.half_closes && !visitor.half_closed) {
      server.end_sending();
      visitor.half_closed = true;
    }
    if (visitor.reads && (calm_ || chance(2)))
      server.read(calm_ ? SIZE_MAX : 1 + pick(kBuffer));
    if (!visitor.behaves && !calm_ && chance(20))
      server.close();
  }
  [[nodiscard]] bool all_answered() const {
    return std::all_of(visitors_.begin(), visitors_.end(), [](const Visitor &each) {
      return !each.behaves || each.server->ended || each.server->answers.ends == each.sent;
    });
  }

  // --- spawner, template, workers
  void serve_spawner() {
    test::FakeSpawner::Order order;
    while (one_.peers.spawner.next(order)) {
      if (order.request.kind == ipc::SpawnKind::kTemplate) {
        auto made = std::make_unique<test::FakeTemplate>();
        made->control = std::move(order.fds[0]);
        made->pid = one_.peers.processes.add();
        one_.peers.spawner.reply(order, made->pid);
        made->ready();
        templates_.push_back(std::move(made));
      } else if (order.request.kind != ipc::SpawnKind::kTrace) {
        one_.peers.spawner.reply(order, order.request.pid, 3);
      }
    }
  }
  void serve_templates() {
    for (auto &each : templates_) {
      while (auto worker = each->order()) {
        worker->pid = one_.peers.processes.add();
        if (calm_ || !chance(30))
          worker->hello();
        if (calm_ || !chance(30))
          worker->accepting();
        workers_.push_back(std::move(worker));
      }
      const bool dies = !calm_ && chance(400);
      if (dies || each->let_go())
        one_.peers.processes.end(each->pid, dies ? SIGKILL : 0);
    }
    std::erase_if(templates_, [this](const auto &each) { return !one_.peers.processes.living.contains(each->pid); });
  }
  void serve_workers() {
    for (auto &each : workers_) {
      if (each->take_connection())
        has_read_.erase(each.get());
      if (calm_)
        behave(*each);
      else
        misbehave(*each);
    }
    std::erase_if(workers_, [this](const auto &each) { return !one_.peers.processes.living.contains(each->pid); });
  }
  // Reads, and answers each request that is whole. One that was out of step before is killed in time by others.
  void behave(test::FakeWorker &worker) {
    if (end_if_let_go(worker))
      return;
    std::string &seen = has_read_[&worker];
    seen += worker.php.read();
    if (seen.size() < 16 || seen.substr(seen.size() - 8) != record(fcgi::RecordType::kStdin, 1, ""))
      return;
    seen.clear();
    worker.php.answer("hello");
  }
  bool end_if_let_go(test::FakeWorker &worker) {
    char byte = 0;
    if (worker.channel.valid() && ::recv(worker.channel.get(), &byte, 1, MSG_DONTWAIT | MSG_PEEK) != 0) {
      if (worker.php.fd.valid() && worker.php.closed()) { // as php-cgi: the next connection
        worker.php.fd.reset();
        has_read_.erase(&worker);
        worker.accepting();
      }
      return false;
    }
    end(worker, 0);
    return true;
  }
  void end(test::FakeWorker &worker, int status) {
    const pid_t pid = worker.pid;
    worker.vanish();
    one_.peers.processes.end(pid, status);
  }
  void misbehave(test::FakeWorker &worker) {
    switch (test::hostile_move(worker, random_, 24, 3 * kBuffer)) {
    case test::Move::kMade:
      return;
    case test::Move::kEnd:
      end(worker, chance(2) ? SIGSEGV : 256);
      return;
    case test::Move::kNone:
      behave(worker);
      return;
    }
  }

  // --- a turn and what is true after each
  void step(bool chaos) {
    for (Visitor &each : visitors_)
      act(each);
    serve_spawner();
    serve_templates();
    serve_workers();
    if (chaos && chance(12))
      one_.peers.loop.engine.advance(milliseconds(pick(1500)));
    one_.turn();
    check();
    std::erase_if(visitors_, [this](const Visitor &each) {
      return !calm_ && (!each.server->open() || (each.server->ended && chance(3)));
    });
  }
  void check() {
    const pool::WorkerTable &table = one_.peers.workers->table();
    std::size_t queued = 0;
    std::size_t live = 0;
    std::size_t busy = 0;
    std::set<std::uint32_t> taken;
    for (const web::Client *client : one_.front->clients()) {
      EXPECT_LT(client->held(), kMemory) << "of one connection";
      EXPECT_TRUE(client->settled()) << "it may send, and nobody reads";
      for (const auto &each : client->requests()) {
        ++live;
        EXPECT_NE(each->state, RequestState::kNew) << "nobody has looked at it";
        EXPECT_NE(each->state, RequestState::kEnded);
        queued += each->state == RequestState::kQueued ? 1 : 0;
        if (each->state != RequestState::kRunning)
          continue;
        ASSERT_TRUE(table.valid(each->worker)) << "its worker has gone";
        EXPECT_TRUE(taken.insert(each->worker.index).second) << "its worker has another one, too";
        busy += table.state(each->worker) == WorkerState::kBusy ? 1 : 0;
      }
    }
    EXPECT_EQ(queued, one_.requests->waiting());
    EXPECT_EQ(busy, table.count(WorkerState::kBusy)) << "a worker is bound to nothing";
    EXPECT_EQ(one_.board().get(Metric::received), one_.board().get(Metric::requests) + live);
    EXPECT_LT(one_.front->held(), 2 * kMemory);
    EXPECT_LT(open_descriptors(), descriptors_ + 400);
    for (const Visitor &each : visitors_)
      EXPECT_LE(each.server->answers.ends, each.sent + (each.behaves ? 0 : 1000));
  }
  // Everybody goes.
  void rest() {
    visitors_.clear();
    for (int i = 0; i < 400 && (one_.front->connections() > 0 || i < 20); ++i) {
      one_.peers.loop.engine.advance(milliseconds(100));
      step(false);
    }
    EXPECT_EQ(one_.front->connections(), 0U);
    EXPECT_EQ(one_.front->held(), 0U);
    EXPECT_EQ(one_.requests->waiting(), 0U);
    EXPECT_EQ(one_.peers.workers->table().count(WorkerState::kBusy), 0U);
    EXPECT_EQ(one_.board().get(Metric::received), one_.board().get(Metric::requests));
  }

  std::minstd_rand random_;
  std::vector<Visitor> visitors_;
  std::vector<std::unique_ptr<test::FakeTemplate>> templates_;
  std::vector<std::unique_ptr<test::FakeWorker>> workers_;
  std::map<test::FakeWorker *, std::string> has_read_; // of the request at hand
  bool calm_ = false;
  std::size_t descriptors_ = 0;
  test::FakeDispatcher one_;
};

TEST(DispatcherModel, WhateverThePeersDo) {
  const unsigned first = number_of("TQFPM_MODEL_SEED", 1);
  const unsigned lives = number_of("TQFPM_MODEL_LIVES", 40);
  std::uint64_t ended = 0;
  for (unsigned seed = first; seed < first + lives; ++seed) {
    SCOPED_TRACE(seed);
    Model model(seed);
    model.live(300);
    ended += model.ended();
    if (::testing::Test::HasFailure())
      return;
  }
  EXPECT_GT(ended, lives * 20U); // the model does something
}

} // namespace
} // namespace tqfpm::dispatcher
