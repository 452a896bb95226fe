#include "fcgi/session.h"

#include <gtest/gtest.h>

#include <map>

#include "base/result.h"
#include "fcgi/params.h"
#include "fcgi/writer.h"

namespace tqfpm::fcgi {
namespace {

// What a connection told, as text. Each request is answered when it is whole, unless a test wants to do that.
struct Fixture {
  explicit Fixture(SessionLimits limits = {}) : session(limits) {}

  bool feed(std::string_view bytes) {
    rest += bytes;
    std::string_view left = rest;
    const bool ok = take(left);
    rest.erase(0, rest.size() - left.size());
    return ok;
  }
  bool take(std::string_view &left) {
    while (true) {
      Arrival it = session.next(left);
      switch (it.kind) {
      case Arrival::Kind::kWait:
        events += "wait " + std::to_string(it.id) + "\n";
        return true;
      case Arrival::Kind::kNothing:
        return true;
      case Arrival::Kind::kMalformed:
        error = it.content;
        return false;
      case Arrival::Kind::kParams:
        events += "params " + std::to_string(it.id) + " role " + std::to_string(int(it.role)) +
                  (it.keep ? " keep " : " close ") + (it.too_long ? "too long" : std::to_string(it.content.size())) +
                  "\n";
        params[it.id] = std::move(it.content);
        break;
      case Arrival::Kind::kBody:
        bodies[it.id] += it.data;
        break;
      case Arrival::Kind::kBodyEnd:
        events += "end " + std::to_string(it.id) + " " + std::to_string(bodies[it.id].size()) + "\n";
        if (answers)
          session.answered(it.id);
        break;
      case Arrival::Kind::kAbort:
        events += "abort " + std::to_string(it.id) + "\n";
        session.answered(it.id);
        break;
      case Arrival::Kind::kReply:
        reply += it.content;
        break;
      }
    }
  }

  Session session;
  bool answers = true;
  std::string rest, error, events, reply;
  std::map<std::uint16_t, std::string> params, bodies;
};

std::string record(RecordType type, std::uint16_t id, std::string_view content, std::uint8_t padding = 0) {
  std::string out;
  append_header(out, type, id, content.size());
  out[6] = static_cast<char>(padding);
  return out + std::string(content) + std::string(padding, '#');
}

std::string begin(std::uint16_t id, bool keep = true, Role role = Role::kResponder) {
  std::string out;
  append_begin_request(out, id, role, keep);
  return out;
}

std::string request(std::uint16_t id, std::string_view body, bool keep = true) {
  std::string out = begin(id, keep);
  std::string content;
  append_pair(content, "A", "b");
  append_params(out, id, content, "");
  append_stream(out, RecordType::kStdin, id, body);
  append_stream_end(out, RecordType::kStdin, id);
  return out;
}

TEST(Session, OneRequest) {
  Fixture f;
  ASSERT_TRUE(f.feed(request(7, "hello", false)));
  EXPECT_EQ(f.events, "params 7 role 1 close 4\nend 7 5\n");
  EXPECT_EQ(f.bodies[7], "hello");
  EXPECT_FALSE(f.session.in_params());
  EXPECT_TRUE(f.rest.empty());
}

TEST(Session, AnySplitGivesTheSame) {
  const std::string wire = request(1, std::string(500, 'x')) + request(65535, "") + request(0, "y");
  Fixture whole;
  ASSERT_TRUE(whole.feed(wire));
  for (std::size_t step = 1; step < 40; ++step) {
    Fixture f;
    for (std::size_t at = 0; at < wire.size(); at += step)
      ASSERT_TRUE(f.feed(wire.substr(at, step)));
    EXPECT_EQ(f.events, whole.events) << step;
    EXPECT_EQ(f.bodies, whole.bodies) << step;
  }
}

TEST(Session, ParametersOverManyRecordsWithPadding) {
  Fixture f;
  std::string content;
  append_pair(content, "LONG", std::string(3000, 'l'));
  std::string wire = begin(1);
  for (std::size_t at = 0; at < content.size(); at += 13)
    wire += record(RecordType::kParams, 1, content.substr(at, 13), static_cast<std::uint8_t>(at));
  wire += record(RecordType::kParams, 1, "", 255);
  ASSERT_TRUE(f.feed(wire));
  EXPECT_EQ(f.params[1], content);
}

TEST(Session, RequestsInterleave) {
  Fixture f;
  const std::string a = request(1, "aaaa");
  const std::string b = request(2, "bb");
  std::string wire = begin(1) + begin(2);
  wire += record(RecordType::kParams, 2, "") + record(RecordType::kParams, 1, "");
  wire += record(RecordType::kStdin, 1, "aa") + record(RecordType::kStdin, 2, "bb", 8) +
          record(RecordType::kStdin, 1, "aa");
  wire += record(RecordType::kStdin, 2, "") + record(RecordType::kStdin, 1, "");
  ASSERT_TRUE(f.feed(wire));
  EXPECT_EQ(f.bodies[1], "aaaa");
  EXPECT_EQ(f.bodies[2], "bb");
  EXPECT_EQ(f.events, "params 2 role 1 keep 0\nparams 1 role 1 keep 0\nend 2 2\nend 1 4\n");
}

TEST(Session, ABodyIsPassedOnBeforeItsRecordIsComplete) {
  Fixture f;
  ASSERT_TRUE(f.feed(begin(1) + record(RecordType::kParams, 1, "")));
  const std::string wire = record(RecordType::kStdin, 1, std::string(60000, 'b'));
  ASSERT_TRUE(f.feed(wire.substr(0, 1000)));
  EXPECT_EQ(f.bodies[1].size(), 992U);
  EXPECT_TRUE(f.rest.empty());
  EXPECT_TRUE(f.session.in_record());
}

TEST(Session, AbortAndWhatComesLater) {
  Fixture f;
  ASSERT_TRUE(f.feed(begin(3) + record(RecordType::kParams, 3, "") + record(RecordType::kAbortRequest, 3, "")));
  EXPECT_EQ(f.events, "params 3 role 1 keep 0\nabort 3\n");
  ASSERT_TRUE(f.feed(record(RecordType::kStdin, 3, "late") + record(RecordType::kStdin, 3, ""))); // dropped
  EXPECT_EQ(f.bodies[3], "");
  ASSERT_TRUE(f.feed(request(3, "again")));
  EXPECT_EQ(f.bodies[3], "again");
}

TEST(Session, GetValuesAndUnknownManagementRecords) {
  Fixture f(SessionLimits{.advertised = 42});
  std::string asked;
  append_pair(asked, "FCGI_MAX_CONNS", "");
  append_pair(asked, "OTHER", "");
  ASSERT_TRUE(f.feed(record(RecordType::kGetValues, 0, asked)));
  std::string answer;
  append_pair(answer, "FCGI_MAX_CONNS", "42");
  EXPECT_EQ(f.reply, record(RecordType::kGetValuesResult, 0, answer));
  f.reply.clear();
  ASSERT_TRUE(f.feed(record(static_cast<RecordType>(99), 0, "x")));
  EXPECT_EQ(f.reply, record(RecordType::kUnknownType, 0, std::string("c\0\0\0\0\0\0\0", 8)));
}

TEST(Session, UnknownRoleAndTooManyRequestsAreRefusedPolitely) {
  Fixture f(SessionLimits{.max_requests = 1});
  std::string refusal;
  append_end_request(refusal, 5, 0, ProtocolStatus::kUnknownRole);
  ASSERT_TRUE(f.feed(begin(5, true, static_cast<Role>(9)) + record(RecordType::kParams, 5, "abc")));
  EXPECT_EQ(f.reply, refusal);
  f.reply.clear();
  refusal.clear();
  append_end_request(refusal, 2, 0, ProtocolStatus::kOverloaded);
  ASSERT_TRUE(f.feed(begin(1) + begin(2)));
  EXPECT_EQ(f.reply, refusal);
}

TEST(Session, AnAuthorizerHasNoBody) {
  Fixture f;
  ASSERT_TRUE(f.feed(begin(1, true, Role::kAuthorizer) + record(RecordType::kParams, 1, "") + begin(1)));
  EXPECT_EQ(f.events, "params 1 role 2 keep 0\nwait 1\n");
}

TEST(Session, WhatIsNoFastCgiIsAnError) {
  const auto error_of = [](const std::string &wire) {
    Fixture f(SessionLimits{.max_params = 100});
    EXPECT_FALSE(f.feed(wire));
    return f.error;
  };
  EXPECT_EQ(error_of("GET / HTTP/1.0\r\n\r\n"), "not FastCGI: version 71 in a record header");
  EXPECT_EQ(error_of(record(RecordType::kBeginRequest, 1, "abc")), "BEGIN_REQUEST of 3 bytes, 8 are needed");
  EXPECT_EQ(error_of(begin(1) + begin(1)), "BEGIN_REQUEST for request id 1, which is being received");
  EXPECT_EQ(error_of(begin(1) + record(RecordType::kStdin, 1, "x")), "STDIN before the end of PARAMS");
  EXPECT_EQ(error_of(begin(1) + record(RecordType::kStdin, 1, "")), "STDIN before the end of PARAMS");
  EXPECT_EQ(error_of(begin(1) + record(RecordType::kParams, 1, "") + record(RecordType::kParams, 1, "")),
            "PARAMS after their end");
  EXPECT_EQ(error_of(record(RecordType::kStdout, 1, "x")), "record of type 6 from a web server");
}

TEST(Session, AnIdThatIsOwedAnAnswerWaits) {
  Fixture f;
  f.answers = false;
  ASSERT_TRUE(f.feed(request(1, "a") + request(1, "b") + request(2, "c")));
  EXPECT_EQ(f.events, "params 1 role 1 keep 4\nend 1 1\nwait 1\n");
  f.events.clear();
  f.session.answered(1);
  ASSERT_TRUE(f.feed(""));
  EXPECT_EQ(f.events, "params 1 role 1 keep 4\nend 1 2\nparams 2 role 1 keep 4\nend 2 1\n");
}

TEST(Session, TooManyParametersAreToldAtOnceAndTheRestIsDropped) {
  Fixture f(SessionLimits{.max_params = 100});
  ASSERT_TRUE(f.feed(begin(1) + record(RecordType::kParams, 1, std::string(101, 'x'))));
  EXPECT_EQ(f.events, "params 1 role 1 keep too long\n");
  f.session.answered(1);
  ASSERT_TRUE(f.feed(record(RecordType::kParams, 1, "more") + record(RecordType::kParams, 1, "") +
                     record(RecordType::kStdin, 1, "")));
  EXPECT_EQ(f.events, "params 1 role 1 keep too long\n");
}

TEST(Session, ParametersOfManyRequestsAreBoundedTogether) {
  Fixture f(SessionLimits{.max_params = 100, .max_held = 150});
  ASSERT_TRUE(f.feed(begin(1) + begin(2) + record(RecordType::kParams, 1, std::string(90, 'x')) +
                     record(RecordType::kParams, 2, std::string(90, 'x'))));
  EXPECT_EQ(f.events, "params 2 role 1 keep too long\n");
  EXPECT_EQ(f.session.held(), 90U);
  f.session.answered(1);
  f.session.answered(2);
  EXPECT_EQ(f.session.held(), 0U);
}

TEST(Session, AnAbortBeforeTheEndOfTheParametersIsAnswered) {
  Fixture f;
  std::string end;
  append_end_request(end, 4, 0, ProtocolStatus::kRequestComplete);
  ASSERT_TRUE(f.feed(begin(4) + record(RecordType::kParams, 4, "abc") + record(RecordType::kAbortRequest, 4, "")));
  EXPECT_EQ(f.reply, end);
  ASSERT_TRUE(f.feed(record(RecordType::kAbortRequest, 9, ""))); // never begun
  EXPECT_EQ(f.events, "");
}

// Whatever bytes come: no crash, no endless loop, never more used than given.
TEST(Session, NoiseNeverBreaksIt) {
  std::uint64_t seed = 88172645463325252ULL;
  const auto random = [&seed] {
    seed ^= seed << 13;
    seed ^= seed >> 7;
    seed ^= seed << 17;
    return seed;
  };
  for (int round = 0; round < 3000; ++round) {
    Fixture f;
    std::string wire = request(static_cast<std::uint16_t>(random()), std::string(random() % 300, 'x'));
    for (std::uint64_t i = random() % 4; i > 0; --i)
      wire[random() % wire.size()] = static_cast<char>(random());
    while (!wire.empty()) {
      const std::size_t length = std::min<std::size_t>(wire.size(), 1 + random() % 100);
      if (!f.feed(wire.substr(0, length)))
        break;
      EXPECT_LE(f.rest.size(), kMaxRecord);
      wire.erase(0, length);
    }
  }
}

} // namespace
} // namespace tqfpm::fcgi
