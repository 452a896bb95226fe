#include <gtest/gtest.h>
#include <sys/resource.h>

#include "fake_workers.h"

namespace tqfpm::workers {
namespace {

using Kind = Event::Kind;
using pool::WorkerState;
using status::Metric;
using test::FakePool;

TEST(Workers, ComeUpFromATemplate) {
  FakePool one;
  one.open();
  EXPECT_EQ(one.count(Kind::kReady), 0U);
  one.start_template();
  ASSERT_EQ(one.count(Kind::kFacts), 1U);
  EXPECT_EQ(one.last(Kind::kFacts)->event.facts.version, 80200U);
  EXPECT_EQ(one.state(WorkerState::kStarting), 1U);
  const auto worker = one.start_worker();
  ASSERT_NE(worker, nullptr);
  EXPECT_EQ(one.count(Kind::kReady), 1U);
  EXPECT_EQ(one.state(WorkerState::kIdle), 1U);
  EXPECT_EQ(one.metric(Metric::workers_started), 1U);
  EXPECT_EQ(one.metric(Metric::idle_workers), 1U);
}

TEST(Workers, ServeRequests) {
  FakePool one;
  const auto worker = one.up();
  for (int i = 0; i < 3; ++i) {
    const auto request = one.request("body");
    ASSERT_TRUE(one.assign(*request));
    EXPECT_EQ(request->worker_pid, worker->pid);
    EXPECT_EQ(one.state(WorkerState::kBusy), 1U);
    EXPECT_NE(worker->php.read().find("body"), std::string::npos);
    worker->php.answer("hello");
    one.run();
    const test::Seen *answer = one.last(Kind::kAnswer);
    ASSERT_NE(answer, nullptr);
    EXPECT_EQ(answer->event.request, request.get());
    EXPECT_TRUE(answer->event.scan.ended);
    EXPECT_NE(answer->records.find("hello"), std::string::npos);
    EXPECT_EQ(one.state(WorkerState::kIdle), 1U);
  }
  EXPECT_EQ(one.count(Kind::kAnswer), 3U);
  EXPECT_EQ(one.metric(Metric::php_requests), 3U);
}

TEST(Workers, LogOutputBeforeTheEndOfAnAnswer) {
  FakePool one;
  const auto worker = one.up();
  const auto request = one.request();
  bool logged = false;
  one.on_event = [&](const Event &event) {
    if (event.kind == Kind::kAnswer)
      logged = one.log.has("said into stderr: \"a word without an end\"");
  };
  ASSERT_TRUE(one.assign(*request));
  worker->say("a word without an end");
  worker->php.answer("hello");
  one.run();
  EXPECT_TRUE(logged);
}

TEST(Workers, SuppressAFloodOfOutput) {
  FakePool one;
  const auto worker = one.up();
  (void)sys::set_nonblocking(worker->err.get(), true);
  const std::string lines(60000, '\n');
  for (int i = 0; i < 80; ++i) {
    worker->say(lines);
    one.turn();
  }
  EXPECT_EQ(one.log.count("said into stderr"), 16384U);
  one.wait(seconds(2));
  EXPECT_EQ(one.log.count("lines of its output were suppressed"), 2U); // the first time, and when it was over
  worker->say("again\n");
  one.run();
  EXPECT_TRUE(one.log.has("\"again\""));
}

TEST(Workers, TellThatARequestIsLostWithItsWorker) {
  FakePool one;
  const auto worker = one.up();
  const auto request = one.request();
  ASSERT_TRUE(one.assign(*request));
  worker->php.out("a part");
  worker->vanish();
  one.processes.end(worker->pid, SIGSEGV);
  one.run();
  ASSERT_EQ(one.count(Kind::kAnswer), 1U);
  EXPECT_FALSE(one.last(Kind::kAnswer)->event.scan.ended);
  ASSERT_EQ(one.count(Kind::kLost), 1U);
  const Event &lost = one.last(Kind::kLost)->event;
  EXPECT_EQ(lost.request, request.get());
  EXPECT_FALSE(lost.timed_out);
  EXPECT_NE(lost.text.find("exited on signal 11 (SIGSEGV), 0.0 s old, 0 requests served"), std::string::npos);
  EXPECT_EQ(one.metric(Metric::ended_signal), 1U);
  EXPECT_TRUE(one.log.has("exited on signal 11"));
  EXPECT_EQ(one.state(WorkerState::kStarting), 1U); // the next one
}

TEST(Workers, TellAWholeAnswerOfAWorkerThatHasEnded) {
  FakePool one;
  const auto worker = one.up();
  const auto request = one.request();
  ASSERT_TRUE(one.assign(*request));
  worker->php.answer("last words");
  worker->vanish();
  one.processes.end(worker->pid, 0);
  one.run();
  ASSERT_EQ(one.count(Kind::kAnswer), 1U);
  EXPECT_TRUE(one.last(Kind::kAnswer)->event.scan.ended);
  EXPECT_EQ(one.count(Kind::kLost), 0U);
}

TEST(Workers, RefuseARequestForAWorkerThatHasGoneUnseen) {
  FakePool one;
  const auto worker = one.up();
  worker->php.fd.reset();
  const auto request = one.request("body");
  const std::string body = request->body;
  EXPECT_FALSE(one.assign(*request)); // inside of it nothing is ended
  EXPECT_EQ(request->body, body);
  EXPECT_EQ(request->worker_pid, 0);
  EXPECT_EQ(one.state(WorkerState::kCutOff), 1U);
  worker->accepting();
  one.run();
  EXPECT_TRUE(worker->take_connection());
  EXPECT_TRUE(one.assign(*request));
}

TEST(Workers, TellThatABodyHasBeenTaken) {
  FakePool one;
  const auto worker = one.up();
  const auto request = one.request(std::string(3U << 20, 'x'), false);
  ASSERT_TRUE(one.assign(*request));
  EXPECT_TRUE(request->body.empty());
  EXPECT_FALSE(one.workers->starves(*request));
  for (int i = 0; i < 1000 && one.count(Kind::kHungry) == 0; ++i) {
    (void)worker->php.read();
    one.turn();
  }
  ASSERT_EQ(one.count(Kind::kHungry), 1U);
  EXPECT_TRUE(one.workers->starves(*request));
  fcgi::append_stream_end(request->body, fcgi::RecordType::kStdin, 1);
  request->body_complete = true;
  one.workers->pump(*request, false);
  EXPECT_FALSE(one.workers->starves(*request));
  worker->php.answer("thanks");
  one.run();
  EXPECT_EQ(one.state(WorkerState::kIdle), 1U);
}

TEST(Workers, HoldAnAnswerBack) {
  FakePool one;
  const auto worker = one.up();
  const auto request = one.request();
  ASSERT_TRUE(one.assign(*request));
  one.workers->pump(*request, true);
  worker->php.answer("later");
  one.run();
  EXPECT_EQ(one.count(Kind::kAnswer), 0U);
  one.workers->pump(*request, false);
  one.run();
  EXPECT_EQ(one.count(Kind::kAnswer), 1U);
}

TEST(Workers, ForgetAnAbandonedRequest) {
  FakePool one;
  const auto worker = one.up();
  auto request = one.request();
  ASSERT_TRUE(one.assign(*request));
  one.workers->abandon(*request);
  request.reset();
  EXPECT_EQ(one.state(WorkerState::kAbandoned), 1U);
  (void)worker->php.read();
  EXPECT_TRUE(worker->php.closed());
  one.run();
  worker->php.fd.reset();
  worker->accepting();
  one.run();
  EXPECT_EQ(one.state(WorkerState::kIdle), 1U);
  EXPECT_EQ(one.count(Kind::kAnswer) + one.count(Kind::kLost), 0U);
}

TEST(Workers, NameNoRequestThatWasAbandonedInTheRound) {
  FakePool one;
  const auto worker = one.up();
  auto request = one.request();
  ASSERT_TRUE(one.assign(*request));
  worker->php.out("hello");
  worker->php.finish_early(); // two events in one step
  one.on_event = [&](const Event &event) {
    if (event.kind == Kind::kAnswer && request != nullptr) {
      one.workers->abandon(*request);
      request.reset();
    }
  };
  one.run();
  EXPECT_EQ(one.count(Kind::kAnswer), 1U);
}

TEST(Workers, GoOnAfterAnEarlyFinish) {
  FakePool one;
  const auto worker = one.up();
  auto request = one.request();
  request->id = 9;
  ASSERT_TRUE(one.assign(*request));
  worker->php.out("hello");
  worker->php.finish_early();
  one.run();
  ASSERT_EQ(one.count(Kind::kAnswer), 2U);
  EXPECT_TRUE(one.last(Kind::kAnswer)->event.scan.ended);
  EXPECT_EQ(one.last(Kind::kAnswer)->records[3], 9);
  request.reset();
  EXPECT_EQ(one.state(WorkerState::kFinishing), 1U);
  worker->php.answer("nobody reads this");
  one.run();
  EXPECT_EQ(one.state(WorkerState::kReturning), 1U);
  worker->php.fd.reset();
  worker->accepting();
  one.run();
  EXPECT_EQ(one.state(WorkerState::kIdle), 1U);
  EXPECT_EQ(one.metric(Metric::finished_early), 1U);
}

TEST(Workers, LoseARequestWhoseWorkerClosesItsConnection) {
  FakePool one;
  const auto worker = one.up();
  const auto request = one.request();
  ASSERT_TRUE(one.assign(*request));
  (void)worker->php.read();
  worker->php.fd.reset();
  one.run();
  EXPECT_EQ(one.count(Kind::kLost), 0U); // its end would tell more
  one.wait(milliseconds(200));
  ASSERT_EQ(one.count(Kind::kLost), 1U);
  EXPECT_EQ(one.last(Kind::kLost)->event.text, kNoAnswer);
  worker->accepting();
  one.run();
  EXPECT_EQ(one.state(WorkerState::kIdle), 1U);
}

TEST(Workers, LoseARequestOfWhichTheWorkerComesBackWithoutAnswer) {
  FakePool one;
  const auto worker = one.up();
  const auto request = one.request();
  ASSERT_TRUE(one.assign(*request));
  worker->php.out("a part");
  (void)worker->php.read();
  worker->php.fd.reset();
  worker->accepting();
  one.run();
  EXPECT_EQ(one.count(Kind::kAnswer), 1U);
  EXPECT_EQ(one.count(Kind::kLost), 1U);
  EXPECT_EQ(one.state(WorkerState::kIdle), 1U);
}

// --- time -----------------------------------------------------------------------------------------------------------

TEST(Workers, EndARequestThatTakesTooLong) {
  FakePool one;
  one.pool.request_terminate_timeout = seconds(3);
  one.pool.request_terminate_grace = seconds(2);
  const auto worker = one.up();
  const auto request = one.request();
  ASSERT_TRUE(one.assign(*request));
  one.wait(seconds(3));
  EXPECT_TRUE(one.processes.was_sent(worker->pid, SIGPROF));
  EXPECT_FALSE(one.processes.was_sent(worker->pid, SIGKILL));
  one.wait(seconds(2));
  EXPECT_TRUE(one.processes.was_sent(worker->pid, SIGKILL));
  ASSERT_EQ(one.count(Kind::kLost), 1U);
  EXPECT_TRUE(one.last(Kind::kLost)->event.timed_out);
  EXPECT_EQ(one.metric(Metric::ended_timeout), 1U);
  EXPECT_EQ(one.metric(Metric::timeouts), 1U);
}

TEST(Workers, GiveNoRequestToAWorkerThatIsKilled) {
  FakePool one;
  one.pool.request_terminate_timeout = seconds(3);
  one.pool.request_terminate_grace = seconds(2);
  one.processes.mortal = false;
  const auto worker = one.up();
  const auto request = one.request();
  ASSERT_TRUE(one.assign(*request));
  one.wait(seconds(3));
  one.wait(seconds(2));
  worker->php.answer("just now"); // while the signal was on its way
  one.run();
  EXPECT_TRUE(one.last(Kind::kAnswer)->event.scan.ended);
  EXPECT_EQ(one.state(WorkerState::kStopping), 1U);
  EXPECT_FALSE(one.workers->idle_worker(0));
}

TEST(Workers, EndAnAbandonedScriptThatTakesTooLong) {
  FakePool one;
  one.pool.request_terminate_timeout = seconds(3);
  one.pool.request_terminate_grace = seconds(2);
  const auto worker = one.up();
  const auto request = one.request();
  ASSERT_TRUE(one.assign(*request));
  one.workers->abandon(*request);
  one.wait(seconds(3));
  EXPECT_TRUE(one.processes.was_sent(worker->pid, SIGPROF));
  one.wait(seconds(2));
  EXPECT_TRUE(one.processes.was_sent(worker->pid, SIGKILL));
}

TEST(Workers, EndAWorkerThatDoesNotComeBack) {
  FakePool one;
  const auto worker = one.up();
  const auto request = one.request("", false); // its connection is not used again
  ASSERT_TRUE(one.assign(*request));
  worker->php.answer("hello");
  one.run();
  EXPECT_EQ(one.state(WorkerState::kReturning), 1U);
  one.wait(seconds(10));
  EXPECT_TRUE(one.processes.was_sent(worker->pid, SIGPROF));
  EXPECT_EQ(one.metric(Metric::timeouts), 0U);
  one.wait(seconds(2));
  EXPECT_TRUE(one.processes.was_sent(worker->pid, SIGKILL));
  EXPECT_EQ(one.metric(Metric::ended_killed), 1U);
}

TEST(Workers, GiveUpAStartOfWhichNothingIsHeard) {
  FakePool one;
  one.open();
  one.start_template();
  const auto worker = one.tmpl.order();
  ASSERT_NE(worker, nullptr);
  one.wait(seconds(30));
  EXPECT_TRUE(one.log.has("cannot start a worker: php-cgi did not report in time"));
}

TEST(Workers, WriteASlowLog) {
  FakePool one;
  one.pool.request_slowlog_timeout = seconds(1);
  const auto worker = one.up();
  int fds[2];
  ASSERT_EQ(::pipe2(fds, O_CLOEXEC | O_NONBLOCK), 0);
  const sys::Fd reader(fds[0]);
  one.workers->slow_log().use(sys::Fd(fds[1]));
  const auto request = one.request();
  ASSERT_TRUE(one.assign(*request));
  one.wait(seconds(1));
  EXPECT_TRUE(one.log.has("executing too slow"));
  test::FakeSpawner::Order order;
  ASSERT_TRUE(one.spawner.next(order));
  EXPECT_EQ(order.request.kind, ipc::SpawnKind::kTrace);
  EXPECT_EQ(order.request.pid, worker->pid);
  one.wait(seconds(3));
  char text[4096];
  const ssize_t got = ::read(reader.get(), text, sizeof text);
  ASSERT_GT(got, 0);
  const std::string entry(text, static_cast<std::size_t>(got));
  EXPECT_NE(entry.find("script_filename = /x.php"), std::string::npos);
  EXPECT_NE(entry.find("+++ dump failed: the spawner does not answer in time"), std::string::npos);
}

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
