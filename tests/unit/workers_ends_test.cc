#include <gtest/gtest.h>
#include <sys/resource.h>

#include "fake_workers.h"

namespace tqfpm::workers {
namespace {

using Kind = Event::Kind;
using pool::WorkerState;
using status::Metric;
using test::FakePool;

// --- php.spawn = exec -----------------------------------------------------------------------------------------------

struct Execed {
  sys::Fd listener;
  pid_t pid = -1;
  test::FakePhp php;
  bool accept() {
    (void)sys::set_nonblocking(listener.get(), true);
    php.fd = sys::Fd(::accept4(listener.get(), nullptr, nullptr, SOCK_CLOEXEC));
    return php.fd.valid();
  }
  bool answer_probe() {
    if (!accept() || php.read().find("FCGI_MPXS_CONNS") == std::string::npos)
      return false;
    php.write("result");
    php.fd.reset();
    return true;
  }
};
Execed start_execed(FakePool &one) {
  Execed worker;
  test::FakeSpawner::Order order;
  if (!one.spawner.next(order) || order.request.kind != ipc::SpawnKind::kWorker)
    return worker;
  worker.listener = std::move(order.fds[0]);
  worker.pid = one.processes.add();
  one.spawner.reply(order, worker.pid);
  one.run();
  EXPECT_TRUE(worker.answer_probe());
  one.run();
  return worker;
}

TEST(ExecedWorkers, AreIdleWhenTheyAnswer) {
  FakePool one(false);
  one.open();
  Execed worker = start_execed(one);
  EXPECT_EQ(one.count(Kind::kReady), 1U);
  EXPECT_EQ(one.state(WorkerState::kIdle), 1U);
  const auto request = one.request();
  ASSERT_TRUE(one.assign(*request));
  ASSERT_TRUE(worker.accept());
  worker.php.answer("hello");
  one.run();
  EXPECT_TRUE(one.last(Kind::kAnswer)->event.scan.ended);
  EXPECT_EQ(one.state(WorkerState::kIdle), 1U);
}

TEST(ExecedWorkers, AreAskedAfterAnAbort) {
  FakePool one(false);
  one.open();
  Execed worker = start_execed(one);
  const auto request = one.request();
  ASSERT_TRUE(one.assign(*request));
  ASSERT_TRUE(worker.accept());
  one.workers->abandon(*request);
  EXPECT_EQ(one.state(WorkerState::kProbed), 1U);
  EXPECT_TRUE(worker.answer_probe());
  one.run();
  EXPECT_EQ(one.state(WorkerState::kIdle), 1U);
}

TEST(ExecedWorkers, ComeBackAfterTheyHaveClosedAConnection) {
  FakePool one(false);
  one.open();
  Execed worker = start_execed(one);
  const auto request = one.request();
  ASSERT_TRUE(one.assign(*request));
  ASSERT_TRUE(worker.accept());
  (void)worker.php.read();
  worker.php.fd.reset();
  one.run();
  EXPECT_EQ(one.state(WorkerState::kCutOff), 1U);
  one.wait(milliseconds(200));
  EXPECT_EQ(one.count(Kind::kLost), 1U);
  EXPECT_EQ(one.state(WorkerState::kProbed), 1U);
  EXPECT_TRUE(worker.answer_probe());
  one.run();
  EXPECT_EQ(one.state(WorkerState::kIdle), 1U);
}

TEST(ExecedWorkers, AreKnownWhenTheyHaveEndedBeforeTheAnswer) {
  FakePool one(false);
  one.open();
  test::FakeSpawner::Order order;
  ASSERT_TRUE(one.spawner.next(order));
  const pid_t pid = one.processes.add();
  one.processes.end(pid, 127 * 256);
  one.run();
  one.spawner.reply(order, pid);
  one.run();
  EXPECT_TRUE(one.log.has("exited with code 127"));
  ASSERT_EQ(one.count(Kind::kFailed), 1U);
  EXPECT_NE(one.last(Kind::kFailed)->event.text.find("before it could serve"), std::string::npos);
}

TEST(ExecedWorkers, AreNotBelievedThroughTheSpawner) {
  FakePool one(false);
  one.open();
  test::FakeSpawner::Order order;
  ASSERT_TRUE(one.spawner.next(order));
  one.spawner.reply(order, 1);
  one.run();
  EXPECT_TRUE(one.log.has("the spawner has told a wrong pid"));
  EXPECT_FALSE(one.processes.was_sent(1, SIGKILL));
}

// --- the end, and scarcity ------------------------------------------------------------------------------------------

TEST(Workers, NeedTheirSpawner) {
  FakePool one;
  const auto worker = one.up();
  one.spawner.control.reset();
  one.processes.end(one.spawner_pid, SIGKILL);
  one.run();
  EXPECT_EQ(one.count(Kind::kWornOut), 1U);
  EXPECT_EQ(one.state(WorkerState::kIdle), 1U);
}

TEST(Workers, FailWithoutTheirSpawner) {
  FakePool one;
  one.open();
  one.spawner.control.reset();
  one.processes.end(one.spawner_pid, 256);
  one.run();
  ASSERT_EQ(one.count(Kind::kFailed), 1U);
  EXPECT_EQ(one.count(Kind::kWornOut), 0U);
  EXPECT_TRUE(one.last(Kind::kFailed)->event.text.starts_with("the spawner exited with code 1"));
}

TEST(Workers, GoWhenAllIsDone) {
  FakePool one;
  one.pool.pm_max_children = 2;
  one.open();
  one.start_template();
  const auto first = one.start_worker();
  const auto second = one.start_worker();
  const auto request = one.request();
  ASSERT_TRUE(one.assign(*request));
  const auto &busy = request->worker_pid == first->pid ? first : second;
  const auto &idle = request->worker_pid == first->pid ? second : first;
  one.draining = true;
  one.workers->finish();
  one.turn();
  EXPECT_TRUE(one.tmpl.let_go());
  EXPECT_EQ(one.state(WorkerState::kStopping), 1U);
  EXPECT_EQ(one.state(WorkerState::kBusy), 1U);
  idle->vanish();
  one.processes.end(idle->pid, 0);
  busy->php.answer("hello");
  one.run();
  one.workers->finish();
  busy->vanish();
  one.processes.end(busy->pid, 0);
  one.run();
  EXPECT_TRUE(one.workers->empty());
  EXPECT_EQ(one.metric(Metric::ended_drained), 2U);
}

TEST(Workers, KeepTheTemplateForRequestsThatWait) {
  FakePool one;
  const auto worker = one.up();
  one.draining = true;
  one.queued = 1;
  one.turn();
  one.workers->finish();
  one.turn();
  EXPECT_FALSE(one.tmpl.let_go());
  EXPECT_EQ(one.state(WorkerState::kIdle), 1U);
}

TEST(Workers, KillATemplateThatDoesNotGo) {
  FakePool one;
  const auto worker = one.up();
  one.draining = true;
  one.turn();
  one.workers->finish();
  one.turn();
  EXPECT_FALSE(one.processes.was_sent(one.tmpl.pid, SIGKILL));
  one.wait(seconds(10));
  EXPECT_TRUE(one.processes.was_sent(one.tmpl.pid, SIGKILL));
}

TEST(Workers, AreReplacedAfterEnoughRequests) {
  FakePool one;
  one.pool.pm_max_requests = 1;
  const auto worker = one.up();
  const auto request = one.request();
  ASSERT_TRUE(one.assign(*request));
  worker->php.answer("hello");
  one.run();
  EXPECT_EQ(one.state(WorkerState::kStopping), 1U);
  worker->vanish();
  one.processes.end(worker->pid, 0);
  one.run();
  EXPECT_EQ(one.metric(Metric::ended_max_requests), 1U);
}

TEST(Workers, KillWhatScriptsHaveLeft) {
  FakePool one;
  one.pool.pm_max_children = 2;
  one.pool.process_kill_descendants = true;
  one.open();
  one.start_template();
  const auto worker = one.start_worker();
  const auto next = one.tmpl.order();
  ASSERT_TRUE(worker != nullptr && next != nullptr);
  const pid_t left = one.processes.add();
  worker->vanish();
  one.processes.end(worker->pid, SIGSEGV);
  one.run();
  EXPECT_FALSE(one.processes.was_sent(left, SIGKILL)); // the next worker could be it
  next->pid = one.processes.add();
  next->hello();
  next->accepting();
  one.run();
  EXPECT_TRUE(one.processes.was_sent(left, SIGKILL));
  for (const pid_t pid : {next->pid, one.tmpl.pid, one.spawner_pid})
    EXPECT_FALSE(one.processes.was_sent(pid, SIGKILL));
}

TEST(Workers, RenewTheTemplateAfterTooManyCrashes) {
  FakePool one;
  one.global.emergency_restart_threshold = 1;
  one.global.emergency_restart_interval = seconds(60);
  const auto worker = one.up();
  worker->vanish();
  one.processes.end(worker->pid, SIGBUS);
  one.run();
  EXPECT_EQ(one.metric(Metric::emergency_restarts), 1U);
  EXPECT_TRUE(one.tmpl.let_go());
  one.start_template();
  one.wait(milliseconds(100)); // one that dies with nothing to do makes starts pause
  EXPECT_NE(one.start_worker(), nullptr);
}

// Takes all descriptors while it lives.
class Scarcity {
public:
  Scarcity() {
    for (int fd = ::dup(0); fd >= 0; fd = ::dup(0))
      taken_.emplace_back(fd);
  }

private:
  struct Limit {
    Limit() {
      (void)::getrlimit(RLIMIT_NOFILE, &before);
      const rlimit low{256, before.rlim_max};
      (void)::setrlimit(RLIMIT_NOFILE, &low);
    }
    ~Limit() { (void)::setrlimit(RLIMIT_NOFILE, &before); }
    rlimit before{};
  } limit_;
  std::vector<sys::Fd> taken_;
};

TEST(Workers, WaitForDescriptors) {
  FakePool one;
  one.open();
  one.decides = false;
  one.start_template();
  {
    const Scarcity scarcity;
    one.decides = true;
    one.run();
    one.wait(seconds(1));
    one.wait(seconds(1));
    EXPECT_EQ(one.log.count("no worker can be started at the moment"), 1U);
    EXPECT_EQ(one.workers->table().total(), 0U);
  }
  one.wait(seconds(2));
  EXPECT_NE(one.start_worker(), nullptr);
}

TEST(Workers, GiveAConnectionLater) {
  FakePool one;
  const auto worker = one.up();
  const auto request = one.request();
  ASSERT_TRUE(one.assign(*request));
  one.workers->abandon(*request);
  worker->php.fd.reset();
  worker->accepting();
  {
    const Scarcity scarcity;
    one.run();
    for (int i = 0; i < 60; ++i)
      one.wait(milliseconds(250));
    EXPECT_EQ(one.state(WorkerState::kReturning), 1U);
    EXPECT_TRUE(one.processes.sent.empty()); // it has done nothing wrong
    EXPECT_EQ(one.log.count("no connection for child"), 1U);
  }
  one.wait(milliseconds(250));
  EXPECT_EQ(one.state(WorkerState::kIdle), 1U);
}

} // namespace
} // namespace tqfpm::workers
