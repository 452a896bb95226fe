#include "web/client.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <functional>
#include <memory>

#include "fake_loop.h"
#include "web_server.h"

namespace tqfpm::web {
namespace {

using pool::Request;
using pool::RequestState;
using test::body;
using test::head;
using test::record;
using test::request;

// A client and its web server, and in the place of the dispatcher a function that is shown each request in each round.
struct Fixture {
  explicit Fixture(FlowLimits limits = {}) : settings{"www", limits, 1} {
    client = std::make_unique<Client>(fake.loop, notes, settings, 1, server.take_other_end(), "", false);
  }

  // Turns until nothing happens any more.
  void run() {
    for (int i = 0; i < 1000; ++i) {
      server.send();
      const bool any = fake.engine.turn();
      if (!round() && !any)
        break;
    }
    if (reads)
      server.read();
  }
  bool round() {
    const std::vector<Client *> ready = std::exchange(notes.ready, {});
    for (Client *each : ready)
      each->work(now());
    for (const bool again : {true, false}) {
      for (std::size_t i = 0; i < client->requests().size();) {
        Request *each = client->requests()[i].get();
        on_request(*each);
        if (i < client->requests().size() && client->requests()[i].get() == each)
          ++i;
      }
      if (again)
        client->resume();
    }
    most_held = std::max(most_held, client->held());
    client->settle(now());
    notes.touched.clear();
    return !ready.empty() || !notes.ready.empty();
  }
  [[nodiscard]] TimePoint now() { return fake.engine.now(); }
  void answer(Request &each, std::string_view text) {
    std::string records;
    fcgi::append_stream(records, fcgi::RecordType::kStdout, each.id, text);
    fcgi::append_end_request(records, each.id, 0, fcgi::ProtocolStatus::kRequestComplete);
    client->send(records);
    client->end(each);
  }
  void pass(Duration time) {
    fake.engine.advance(time);
    if (now() >= client->due())
      (void)client->expire(now());
    run();
  }

  test::FakeLoop fake;
  Notes notes;
  ClientSettings settings;
  test::WebServer server;
  std::unique_ptr<Client> client;
  std::size_t most_held = 0;
  bool reads = true; // does the web server?
  std::size_t abandoned = 0;
  // As the dispatcher does: what has gone ends, what is whole is answered.
  std::function<void(Request &)> on_request = [this](Request &each) {
    if (each.gone) {
      ++abandoned;
      client->end(each);
    } else if (each.aborted) {
      std::string end;
      fcgi::append_end_request(end, each.id, 0, fcgi::ProtocolStatus::kRequestComplete);
      client->send(end);
      client->end(each);
    } else if (each.body_complete) {
      answer(each, "ok");
    }
  };
};

TEST(Client, AnswersAndKeepsTheConnection) {
  Fixture f;
  f.server.send(request(1, true));
  f.run();
  EXPECT_EQ(f.server.answers.of_id[1].output, "ok");
  EXPECT_TRUE(f.client->idle());
  f.server.send(request(1, false, "hello"));
  f.run();
  EXPECT_EQ(f.server.answers.of_id[1].ends, 2);
  EXPECT_TRUE(f.server.ended);
  EXPECT_TRUE(f.client->finished());
}

TEST(Client, PipelinedRequestsWithOneIdAreAnsweredInTurn) {
  Fixture f;
  std::string wire;
  for (int i = 0; i < 20; ++i)
    wire += request(1, i < 19, i % 2 == 0 ? "" : "some body");
  f.server.send(wire);
  f.run();
  EXPECT_EQ(f.server.answers.of_id[1].ends, 20);
  EXPECT_TRUE(f.server.ended);
}

TEST(Client, TheLastOfSeveralRequestsClosesTheConnection) {
  Fixture f;
  Request *held = nullptr;
  f.on_request = [&](Request &each) {
    if (each.id == 1)
      held = &each;
    else if (each.body_complete)
      f.answer(each, "ok");
  };
  f.server.send(request(1, true) + request(2, false));
  f.run();
  EXPECT_EQ(f.server.answers.of_id[2].ends, 1);
  EXPECT_FALSE(f.server.ended);
  f.answer(*held, "late");
  f.on_request = [](Request &) {};
  f.round();
  f.run();
  EXPECT_EQ(f.server.answers.of_id[1].output, "late");
  EXPECT_TRUE(f.server.ended);
}

TEST(Client, AWholeRequestIsAnsweredAlsoWhenItsPeerSendsNothingMore) {
  for (const bool keep : {true, false}) {
    Fixture f;
    f.server.send(request(1, keep, "body") + request(1, keep, "body"));
    f.server.end_sending();
    f.run();
    EXPECT_EQ(f.server.answers.of_id[1].ends, keep ? 2 : 1);
    EXPECT_TRUE(f.server.ended);
    EXPECT_TRUE(f.client->finished());
  }
}

// Whatever part of a request has come when the peer ends, nothing is left over.
TEST(Client, AnyPrefixAndTheEndOfThePeer) {
  const std::string wire = request(1, true, std::string(300, 'b'));
  for (std::size_t length = 0; length <= wire.size(); ++length) {
    for (const bool half : {true, false}) {
      Fixture f;
      f.server.send(wire.substr(0, length));
      if (length % 3 == 0)
        f.run();
      if (half)
        f.server.end_sending();
      else
        f.server.close();
      f.run();
      EXPECT_TRUE(f.client->finished()) << length << (half ? " half" : " whole");
      EXPECT_EQ(f.server.answers.of_id[1].ends, half && length == wire.size() ? 1 : 0) << length;
    }
  }
}

TEST(Client, AnAbortIsAnsweredWhereverItComes) {
  const std::string begin = head(1, true).substr(0, 16);
  const std::string abort = record(fcgi::RecordType::kAbortRequest, 1, "");
  for (const std::string &before : {begin, head(1, true), head(1, true) + body(1, "part", false)}) {
    Fixture f;
    f.server.send(before + abort);
    f.run();
    EXPECT_EQ(f.server.answers.of_id[1].ends, 1) << before.size();
    f.server.send(request(1, true)); // the connection goes on
    f.run();
    EXPECT_EQ(f.server.answers.of_id[1].ends, 2) << before.size();
  }
}

TEST(Client, ABodyIsHeldUpToItsBufferAndGoesOnWhenItIsTaken) {
  Fixture f(FlowLimits{.request_buffer = 100000});
  Request *seen = nullptr;
  f.on_request = [&seen](Request &each) { seen = &each; };
  constexpr std::size_t kSize = 3U << 20;
  f.server.send(head(1, true, {{"CONTENT_LENGTH", std::to_string(kSize)}}) + body(1, std::string(kSize, 'x')));
  f.run();
  ASSERT_NE(seen, nullptr);
  EXPECT_GE(seen->body.size(), 100000U);
  EXPECT_LT(f.most_held, 1000000U);
  std::size_t taken = 0;
  for (int i = 0; i < 200 && !seen->body_complete; ++i) {
    taken += std::exchange(seen->body, {}).size();
    f.client->touch();
    f.round(); // nobody has called the client
    f.run();
  }
  EXPECT_TRUE(seen->body_complete);
  EXPECT_EQ(seen->body_received, kSize);
  EXPECT_GE(taken + seen->body.size(), kSize);
  EXPECT_LT(f.most_held, 1000000U);
}

TEST(Client, NothingIsParsedWhileItsAnswersAreNotTaken) {
  Fixture f(FlowLimits{.response_buffer = 10000});
  f.reads = false;
  std::string wire;
  for (int i = 0; i < 50000; ++i)
    wire += record(static_cast<fcgi::RecordType>(99), 0, "");
  f.server.send(wire);
  f.run();
  EXPECT_LT(f.most_held, 1000000U);
  EXPECT_GT(f.server.unsent(), 0U);
  f.reads = true;
  for (int i = 0; i < 1000 && f.server.answers.others < 50000; ++i)
    f.run();
  EXPECT_EQ(f.server.answers.others, 50000U);
}

TEST(Client, ParametersHaveOneTimeForAllOfThem) {
  Fixture f(FlowLimits{.head = seconds(10)});
  const std::string wire = head(1, true, {{"A", std::string(100, 'a')}});
  f.server.send(wire.substr(0, 20));
  f.run();
  for (int i = 0; i < 9; ++i) {
    f.server.send(wire.substr(20 + std::size_t(i), 1));
    f.pass(seconds(1));
    EXPECT_FALSE(f.client->finished());
  }
  f.pass(seconds(1));
  EXPECT_TRUE(f.client->finished());
}

TEST(Client, ABodyHasATimeForEachPieceOfIt) {
  Fixture f(FlowLimits{.body = seconds(10)});
  bool timed_out = false;
  f.on_request = [&](Request &each) {
    timed_out = each.timed_out;
    if (each.timed_out)
      f.answer(each, "late");
  };
  f.server.send(head(1, true, {{"CONTENT_LENGTH", "100"}}));
  f.run();
  for (int i = 0; i < 5; ++i) {
    f.pass(seconds(9));
    EXPECT_FALSE(timed_out);
    f.server.send(body(1, "x", false));
    f.run();
  }
  f.pass(seconds(10));
  EXPECT_TRUE(timed_out);
  EXPECT_EQ(f.server.answers.of_id[1].output, "late");
  EXPECT_TRUE(f.server.ended); // nothing more is expected of it
}

TEST(Client, WhoTakesNoAnswerIsCut) {
  Fixture f(FlowLimits{.send = seconds(10)});
  f.reads = false;
  f.on_request = [&](Request &each) { f.answer(each, std::string(2U << 20, 'x')); };
  f.server.send(request(1, true));
  f.run();
  for (int i = 0; i < 3; ++i) {
    f.pass(seconds(9));
    EXPECT_FALSE(f.client->finished());
    f.server.read(250000); // it is slow, and takes something
    f.run();
  }
  f.pass(seconds(10));
  EXPECT_TRUE(f.client->finished());
}

TEST(Client, AnIdleConnectionHasNoTimeLimit) {
  Fixture f;
  f.server.send(request(1, true));
  f.run();
  EXPECT_EQ(f.client->due(), TimePoint::max());
}

TEST(Client, ACutAnswerDoesNotLookWhole) {
  Fixture f;
  f.on_request = [&](Request &each) {
    std::string records;
    fcgi::append_stream(records, fcgi::RecordType::kStdout, each.id, "part");
    f.client->send(records);
    f.client->cut(each);
  };
  f.server.send(request(1, true));
  f.run();
  EXPECT_EQ(f.server.answers.of_id[1].output, "part");
  EXPECT_EQ(f.server.answers.ends, 0U);
  EXPECT_TRUE(f.server.ended);
}

TEST(Client, ACutAnswerOnASharedConnectionHasAStatus) {
  Fixture f;
  f.on_request = [&](Request &each) {
    if (each.id == 1 && f.client->requests().size() == 2)
      f.client->cut(each);
  };
  f.server.send(request(1, true) + request(2, true));
  f.run();
  EXPECT_EQ(f.server.answers.of_id[1].ends, 1);
  EXPECT_EQ(f.server.answers.of_id[1].app_status, 1U);
  EXPECT_FALSE(f.server.ended);
}

// An answer before the end of the body must not be lost in a reset.
TEST(Client, AnEarlyAnswerIsReadBeforeTheEnd) {
  Fixture f;
  f.on_request = [&](Request &each) { f.answer(each, "no"); };
  f.server.send(head(1, false, {{"CONTENT_LENGTH", "1000000"}}) + body(1, std::string(100000, 'x'), false));
  f.run();
  EXPECT_EQ(f.server.answers.of_id[1].output, "no");
  EXPECT_EQ(f.client->state(), ClientState::kLingering);
  EXPECT_TRUE(f.notes.ready.empty()); // nothing is to be done until more comes
  f.server.send(body(1, std::string(900000, 'x')));
  f.run();
  f.server.close();
  f.run();
  EXPECT_TRUE(f.client->finished());
}

TEST(Client, WhoDoesNotSpeakFastCgiIsSaid) {
  Fixture f;
  f.server.send("GET / HTTP/1.0\r\n\r\n");
  f.run();
  EXPECT_TRUE(f.client->finished());
  EXPECT_EQ(f.client->take_complaint(), "not FastCGI: version 71 in a record header");
}

TEST(Client, TooManyParametersAreLeftToTheDispatcher) {
  Fixture f;
  bool too_many = false;
  f.on_request = [&](Request &each) {
    too_many = each.too_many_params;
    f.answer(each, "431");
  };
  std::string bytes;
  fcgi::append_begin_request(bytes, 1, fcgi::Role::kResponder, true);
  for (int i = 0; i < 20; ++i)
    fcgi::append_stream(bytes, fcgi::RecordType::kParams, 1, std::string(60000, '\0'));
  fcgi::append_stream_end(bytes, fcgi::RecordType::kParams, 1);
  f.server.send(bytes);
  f.run();
  EXPECT_TRUE(too_many);
  EXPECT_LT(f.most_held, 4U << 20);
  EXPECT_EQ(f.server.answers.of_id[1].output, "431");
}

TEST(Client, RequestsOfAConnectionThatGoesAreGone) {
  Fixture f;
  const auto ends = f.on_request;
  f.on_request = [&](Request &each) {
    if (each.gone)
      ends(each);
  };
  f.server.send(request(1, true) + request(2, true));
  f.run();
  EXPECT_EQ(f.client->requests().size(), 2U);
  f.server.close();
  f.run();
  EXPECT_EQ(f.abandoned, 2U);
  EXPECT_TRUE(f.client->finished());
}

} // namespace
} // namespace tqfpm::web
