// Random peers: whatever they do, each request ends exactly once, nothing is held by nobody, and all goes at the end.
#include <gtest/gtest.h>

#include <random>

#include "fake_workers.h"

namespace tqfpm::workers {
namespace {

using Kind = Event::Kind;
using pool::WorkerState;

class Model {
public:
  explicit Model(unsigned seed) : random_(seed) {
    one_.pool.pm_max_children = 4;
    one_.pool.request_terminate_timeout = seconds(3);
    one_.pool.request_terminate_grace = seconds(1);
    one_.pool.request_terminate_timeout_track_finished = true;
    one_.pool.request_slowlog_timeout = seconds(1);
    one_.pool.pm_max_requests = static_cast<std::int64_t>(seed % 3) * 5;
    one_.pool.process_kill_descendants = seed % 2 == 1;
    one_.on_event = [this](const Event &event) { happened(event); };
    one_.open();
    one_.start_template();
  }

  void run(int steps) {
    for (int i = 0; i < steps && !::testing::Test::HasFailure(); ++i) {
      peers_appear();
      act();
      one_.turn();
      check();
    }
  }

  void finish() {
    one_.draining = true;
    for (int i = 0; i < 100 && (i == 0 || !one_.workers->empty()); ++i) {
      while (!requests_.empty())
        abandon(requests_.begin()->first);
      one_.workers->finish();
      peers_appear();
      for (auto &[pid, worker] : peers_)
        worker->channel.reset();
      one_.wait(seconds(2));
    }
    EXPECT_TRUE(one_.workers->empty());
    EXPECT_TRUE(one_.tmpl.let_go());
  }
  [[nodiscard]] std::size_t ended() const { return ended_; }

private:
  bool chance(unsigned of) { return random_() % of == 0; }

  void peers_appear() {
    one_.turn();
    while (auto worker = one_.tmpl.order()) {
      worker->pid = one_.processes.add();
      if (!chance(20))
        worker->hello();
      if (!chance(20))
        worker->accepting();
      peers_[worker->pid] = std::move(worker);
    }
    std::erase_if(peers_, [this](const auto &each) { return !one_.processes.living.contains(each.first); });
    for (auto &[pid, worker] : peers_)
      (void)worker->take_connection();
  }

  void act() {
    if (chance(3)) {
      auto request = one_.request(std::string(chance(5) ? 1U << 20 : 10U, 'x'), !chance(4));
      if (one_.assign(*request))
        requests_[request.get()] = std::move(request);
    }
    if (chance(10))
      one_.loop.engine.advance(milliseconds(random_() % 2000));
    if (!requests_.empty() && chance(3)) {
      auto each = requests_.begin();
      std::advance(each, random_() % requests_.size());
      if (chance(4)) {
        abandon(each->first);
      } else {
        pool::Request &request = *each->second;
        if (!request.body_complete && chance(2)) {
          fcgi::append_stream_end(request.body, fcgi::RecordType::kStdin, 1);
          request.body_complete = true;
        }
        one_.workers->pump(request, chance(3));
      }
    }
    if (!peers_.empty()) {
      auto peer = peers_.begin();
      std::advance(peer, random_() % peers_.size());
      behave(*peer->second);
    }
  }

  void behave(test::FakeWorker &worker) {
    switch (test::hostile_move(worker, random_, 14, 20)) {
    case test::Move::kMade:
      return;
    case test::Move::kEnd: {
      const pid_t pid = worker.pid;
      worker.vanish();
      one_.processes.end(pid, chance(2) ? SIGSEGV : 0);
      return;
    }
    case test::Move::kNone:
      if (!worker.php.read().empty() || chance(10))
        worker.php.answer("hello");
      return;
    }
  }

  void abandon(pool::Request *request) {
    one_.workers->abandon(*request);
    requests_.erase(request);
  }

  void happened(const Event &event) {
    if (event.kind == Kind::kWantsStatus)
      one_.workers->send_status(event.worker, "status");
    if (event.request == nullptr)
      return;
    EXPECT_TRUE(requests_.contains(event.request)) << "an event of kind " << static_cast<int>(event.kind);
    const bool over =
        event.kind == Kind::kReturned || event.kind == Kind::kLost || (event.kind == Kind::kAnswer && event.scan.ended);
    if (over) {
      ++ended_;
      requests_.erase(event.request);
    } else if (chance(20)) {
      abandon(event.request);
    }
  }

  void check() {
    const pool::WorkerTable &table = one_.workers->table();
    std::size_t sum = 0;
    for (std::size_t i = 1; i < pool::kWorkerStates; ++i)
      sum += table.count(static_cast<WorkerState>(i));
    EXPECT_EQ(sum, table.total());
    EXPECT_LE(table.count(WorkerState::kBusy), requests_.size());
    for (const auto &[pointer, request] : requests_) // somebody has it
      EXPECT_TRUE(table.valid(request->worker));
  }

  std::minstd_rand random_;
  std::map<pool::Request *, std::unique_ptr<pool::Request>> requests_;
  std::map<pid_t, std::unique_ptr<test::FakeWorker>> peers_;
  std::size_t ended_ = 0;
  test::FakePool one_;
};

TEST(WorkersModel, EndsEachRequestOnce) {
  std::size_t ended = 0;
  for (unsigned seed = 1; seed <= 40; ++seed) {
    SCOPED_TRACE(seed);
    Model model(seed);
    model.run(400);
    model.finish();
    ended += model.ended();
    if (::testing::Test::HasFailure())
      return;
  }
  EXPECT_GT(ended, 500U); // the model does something
}

} // namespace
} // namespace tqfpm::workers
