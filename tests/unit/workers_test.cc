#include <gtest/gtest.h>

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
  EXPECT_TRUE(one.workers->view().empty()); // there is no process yet
  const auto worker = one.start_worker();
  ASSERT_NE(worker, nullptr);
  EXPECT_EQ(one.workers->view().size(), 1U);
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
  one.run();
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
  request->body = std::string(1U << 20, 'y'); // it comes while the worker has not taken the first part
  for (int i = 0; i < 1000 && one.count(Kind::kTaken) == 0; ++i) {
    (void)worker->php.read();
    one.turn();
  }
  ASSERT_EQ(one.count(Kind::kTaken), 1U);
  EXPECT_TRUE(request->body.empty()); // there is room for more, while this is being sent
  fcgi::append_stream_end(request->body, fcgi::RecordType::kStdin, 1);
  request->body_complete = true;
  one.workers->pump(*request, false);
  for (int i = 0; i < 1000 && !worker->php.read().empty(); ++i)
    one.turn();
  EXPECT_EQ(one.count(Kind::kTaken), 1U); // it is whole: nobody waits for room
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
  ASSERT_EQ(one.count(Kind::kAnswer), 1U); // with its end, in one piece
  const auto &told = *one.last(Kind::kAnswer);
  EXPECT_TRUE(told.event.scan.ended);
  EXPECT_EQ(told.event.scan.body_bytes, 5U);
  EXPECT_EQ(told.event.scan.consumed, told.records.size());
  EXPECT_EQ(told.records[3], 9);
  EXPECT_NE(told.records.find("hello"), std::string::npos);
  EXPECT_EQ(told.records[told.records.size() - 16 + 1], static_cast<char>(fcgi::RecordType::kEndRequest));
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

TEST(Workers, GiveUpAStartOfWhichNothingIsHeardAndItsTemplate) {
  FakePool one;
  one.global.watchdog_timeout = seconds(10);
  one.open();
  one.start_template();
  const auto worker = one.tmpl.order();
  ASSERT_NE(worker, nullptr);
  one.wait(seconds(10));
  EXPECT_TRUE(one.log.has("cannot start a worker: php-cgi did not report in time"));
  EXPECT_TRUE(one.tmpl.let_go());
  test::FakeSpawner::Order order;
  ASSERT_TRUE(one.spawner.next(order));
  EXPECT_EQ(order.request.kind, ipc::SpawnKind::kTemplate);
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

} // namespace
} // namespace tqfpm::workers
