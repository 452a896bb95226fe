#include <gtest/gtest.h>

#include "fake_workers.h"

namespace tqfpm::workers {
namespace {

using Kind = Event::Kind;
using pool::WorkerState;
using status::Metric;
using test::FakePool;

// --- a hostile channel ----------------------------------------------------------------------------------------------

TEST(Workers, DoNotBelieveAChannel) {
  FakePool one;
  one.open();
  one.start_template();
  const auto worker = one.tmpl.order();
  worker->pid = one.processes.add();
  worker->accepting(); // before HELLO
  one.run();
  EXPECT_EQ(one.state(WorkerState::kIdle), 0U);
  EXPECT_TRUE(one.log.has("a wish for a connection before its pid"));
}

TEST(Workers, DoNotBelieveAPid) {
  FakePool one;
  one.open();
  one.start_template();
  for (const pid_t pid : {1, one.spawner_pid, one.tmpl.pid}) {
    const auto worker = one.tmpl.order();
    ASSERT_NE(worker, nullptr);
    worker->pid = pid;
    worker->hello();
    worker->accepting();
    one.run();
    EXPECT_EQ(one.state(WorkerState::kIdle), 0U);
    EXPECT_FALSE(one.processes.was_sent(pid, SIGKILL));
    one.wait(seconds(5));
  }
}

TEST(Workers, EndAWorkerThatReportsWhatNoneDoes) {
  const std::function<void(const test::FakeWorker &)> reports[] = {
      [](const auto &worker) { worker.hello(); },
      [](const auto &worker) { worker.accepting(); }, // with a connection
      [](const auto &worker) { worker.report(ipc::WorkerReportType::kFailed); },
      [](const auto &worker) { worker.report(ipc::WorkerReportType::kStatus); }, // no script runs
      [](const auto &worker) { worker.report(static_cast<ipc::WorkerReportType>(99)); },
      [](const auto &worker) { (void)sys::send_packet(worker.channel.get(), "x", 1, {}); },
      [](const auto &worker) {
        const std::string much(10000, 'x');
        (void)sys::send_packet(worker.channel.get(), much.data(), much.size(), {});
      },
  };
  for (const auto &report : reports) {
    FakePool one;
    const auto worker = one.up();
    report(*worker);
    one.run();
    EXPECT_TRUE(one.processes.was_sent(worker->pid, SIGKILL));
    EXPECT_TRUE(one.log.has(": killed"));
    EXPECT_EQ(one.metric(Metric::ended_killed), 1U);
  }
}

TEST(Workers, LoseTheRequestOfOneThatWantsAConnectionWhileItHasOne) {
  FakePool one;
  const auto worker = one.up();
  const auto request = one.request();
  ASSERT_TRUE(one.assign(*request));
  worker->php.out("a part");
  worker->accepting();
  one.run();
  EXPECT_TRUE(one.processes.was_sent(worker->pid, SIGKILL));
  EXPECT_EQ(one.count(Kind::kAnswer), 1U);
  EXPECT_EQ(one.count(Kind::kLost), 1U);
}

TEST(Workers, ReadABoundedNumberOfReportsInATurn) {
  FakePool one;
  one.pool.pm_max_children = 2;
  one.open();
  one.start_template();
  const auto worker = one.start_worker();
  const auto other = one.start_worker();
  ASSERT_TRUE(worker != nullptr && other != nullptr);
  const auto request = one.request();
  ASSERT_TRUE(one.assign(*request));
  const auto &busy = request->worker_pid == worker->pid ? worker : other;
  busy->report(ipc::WorkerReportType::kStatus);
  one.turn();
  EXPECT_EQ(one.count(Kind::kWantsStatus), 1U);
  one.workers->send_status(busy->id, "status");
  ipc::ChannelMessage message{};
  const sys::Packet packet = sys::receive_packet(busy->channel.get(), &message, sizeof message);
  EXPECT_EQ(packet.length, static_cast<ssize_t>(sizeof message));
  EXPECT_EQ(message, ipc::ChannelMessage::kStatus);
  EXPECT_EQ(packet.fds.size(), 1U);
  busy->report(ipc::WorkerReportType::kStatus);
  busy->report(ipc::WorkerReportType::kStatus); // it waits for the first answer
  one.run();
  EXPECT_TRUE(one.processes.was_sent(busy->pid, SIGKILL));
}

TEST(Workers, EndAWorkerThatSendsWhatPhpDoesNot) {
  FakePool one;
  const auto worker = one.up();
  worker->php.write("nonsense");
  one.run();
  EXPECT_TRUE(one.processes.was_sent(worker->pid, SIGKILL));
  EXPECT_TRUE(one.log.has("sent output without a request: killed"));
}

// --- templates ------------------------------------------------------------------------------------------------------

TEST(Workers, OutliveTheirTemplate) {
  FakePool one;
  const auto worker = one.up();
  const pid_t before = one.tmpl.pid;
  one.processes.end(before, 256);
  one.run();
  EXPECT_TRUE(one.log.has("the template has gone (exited with code 1), starting another one in 100 ms"));
  EXPECT_EQ(one.state(WorkerState::kIdle), 1U);
  one.wait(milliseconds(100));
  one.start_template();
  EXPECT_EQ(one.state(WorkerState::kStopping), 1U); // the pool shares one OPcache again
  worker->vanish();
  one.processes.end(worker->pid, 0);
  one.run();
  EXPECT_EQ(one.metric(Metric::ended_renewed), 1U);
  EXPECT_NE(one.start_worker(), nullptr);
}

TEST(Workers, FallBackToExec) {
  FakePool one;
  one.open();
  test::FakeSpawner::Order order;
  ASSERT_TRUE(one.spawner.next(order));
  const pid_t pid = one.processes.add();
  one.spawner.reply(order, pid);
  one.wait(seconds(10));
  EXPECT_TRUE(one.processes.was_sent(pid, SIGKILL));
  EXPECT_TRUE(one.log.has("falling back to php.spawn = exec"));
  ASSERT_TRUE(one.spawner.next(order));
  EXPECT_EQ(order.request.kind, ipc::SpawnKind::kWorker);
}

TEST(Workers, FailWithoutATemplateInAChroot) {
  FakePool one;
  one.pool.chroot = "/srv";
  one.open();
  test::FakeSpawner::Order order;
  ASSERT_TRUE(one.spawner.next(order));
  one.spawner.reply(order, -1, 0, ENOENT);
  one.run();
  ASSERT_EQ(one.count(Kind::kFailed), 1U);
  EXPECT_NE(one.last(Kind::kFailed)->event.text.find("and chroot needs it"), std::string::npos);
}

TEST(Workers, DoNotBelieveATemplate) {
  FakePool one;
  const auto worker = one.up();
  const pid_t pid = one.tmpl.pid;
  one.tmpl.reply(ipc::TemplateReplyType::kReady); // again
  one.run();
  EXPECT_TRUE(one.processes.was_sent(pid, SIGKILL));
  EXPECT_TRUE(one.log.has("it has said what no template says"));
  EXPECT_EQ(one.state(WorkerState::kIdle), 1U);
}

TEST(Workers, RenewATemplateThatClosesItsSocket) {
  FakePool one;
  const auto worker = one.up();
  const pid_t pid = one.tmpl.pid;
  one.tmpl.control.reset();
  one.run();
  EXPECT_FALSE(one.processes.was_sent(pid, SIGKILL));
  one.wait(seconds(2));
  EXPECT_TRUE(one.processes.was_sent(pid, SIGKILL));
  EXPECT_TRUE(one.log.has("the template has gone (it has closed its control socket)"));
}

TEST(Workers, CountAForkThatFails) {
  FakePool one;
  one.open();
  one.start_template();
  const auto worker = one.tmpl.order();
  one.tmpl.reply(ipc::TemplateReplyType::kSpawnFailed, worker->id, EAGAIN);
  one.run();
  EXPECT_TRUE(one.log.has("cannot start a worker: cannot fork: Resource temporarily unavailable"));
  EXPECT_EQ(one.count(Kind::kReady), 1U); // said, and tried again
  EXPECT_EQ(one.workers->table().total(), 0U);
}

TEST(Workers, SayWhatPhpSaidAtItsStart) {
  FakePool one;
  one.open();
  one.start_template();
  (void)!::write(one.tmpl.err.get(), "PHP Warning: x\n", 15);
  one.run();
  EXPECT_FALSE(one.log.has("php-cgi said"));
  const auto worker = one.start_worker();
  one.wait(seconds(2));
  EXPECT_TRUE(one.log.has("[pool www] php-cgi said: PHP Warning: x"));
}

TEST(Workers, RefuseSettingsWithWhichPhpDoesNotStart) {
  FakePool one;
  one.pool.pm = config::ProcessManagerKind::kOnDemand;
  one.pool.php_max_variants = 1;
  one.open();
  one.start_template();
  const auto settings = [] { return sys::sealed_text("settings", "x"); };
  const auto variant = one.workers->variant("key", settings);
  ASSERT_TRUE(variant);
  EXPECT_EQ(*variant, 1U);
  EXPECT_EQ(one.workers->variants(), 2U);
  one.queued = 1;
  one.wanted.start = {1};
  one.turn();
  test::FakeSpawner::Order order;
  ASSERT_TRUE(one.spawner.next(order));
  EXPECT_EQ(order.fds.size(), 4U);
  one.queued = 0;
  one.wanted.start.clear();
  one.spawner.reply(order, -1, 0, ENOEXEC);
  one.run();
  ASSERT_EQ(one.count(Kind::kVariantFailed), 1U);
  EXPECT_EQ(one.last(Kind::kVariantFailed)->event.variant, 1U);
  EXPECT_FALSE(one.workers->variant("key", settings));
  one.workers->release(1);
  one.wait(seconds(6));
  EXPECT_TRUE(one.workers->variant("key", settings));
}

} // namespace
} // namespace tqfpm::workers
