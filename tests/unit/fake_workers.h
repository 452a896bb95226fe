// Fake peers of the set of workers, in the test's own process: a spawner, templates, workers and php-cgi's side of a
// connection, over real socket pairs; and processes that exist in a table alone.
#pragma once

#include <fcntl.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include <cstring>
#include <deque>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "fake_loop.h"
#include "fcgi/writer.h"
#include "ipc/control.h"
#include "sys/log.h"
#include "sys/shared_memory.h"
#include "sys/socket.h"
#include "workers/workers.h"

namespace tqfpm::test {

// Beyond any real one.
inline constexpr pid_t kFirstPid = 5000000;

class FakeProcesses : public workers::Processes {
public:
  bool kill(pid_t pid, int number) override {
    sent.emplace_back(pid, number);
    if (!living.contains(pid)) {
      errno = ESRCH;
      return false;
    }
    if (number == SIGKILL && mortal)
      end(pid, SIGKILL);
    return true;
  }
  std::optional<End> next_end() override {
    if (ends.empty())
      return std::nullopt;
    const End end = ends.front();
    ends.pop_front();
    children.erase(end.pid);
    return end;
  }
  bool is_child(pid_t pid) override { return children.contains(pid); }
  std::vector<pid_t> children_of(pid_t pid) override {
    if (pid == self())
      return {children.begin(), children.end()};
    return descendants.contains(pid) ? std::vector<pid_t>{1} : std::vector<pid_t>();
  }
  pid_t self() override { return kFirstPid - 1; }

  pid_t add() {
    const pid_t pid = next_pid++;
    children.insert(pid);
    living.insert(pid);
    return pid;
  }
  void end(pid_t pid, int status) { // of wait: a signal's number, or 256 times an exit code
    if (living.erase(pid) == 1)
      ends.push_back(End{pid, status});
  }
  [[nodiscard]] bool was_sent(pid_t pid, int number) const {
    return std::find(sent.begin(), sent.end(), std::pair(pid, number)) != sent.end();
  }

  pid_t next_pid = kFirstPid;
  bool mortal = true; // SIGKILL kills
  std::set<pid_t> children;
  std::set<pid_t> living;
  std::set<pid_t> descendants; // workers that have some
  std::deque<End> ends;
  std::vector<std::pair<pid_t, int>> sent;
};

// Everything that is logged while it lives.
class FakeLog {
public:
  FakeLog() : fd_(::memfd_create("log", MFD_CLOEXEC)) { sys::log().use(fd_.get()); }
  ~FakeLog() { sys::log().use(2); }
  [[nodiscard]] std::string text() const {
    std::string text(static_cast<std::size_t>(::lseek(fd_.get(), 0, SEEK_END)), 0);
    (void)!::pread(fd_.get(), text.data(), text.size(), 0);
    return text;
  }
  [[nodiscard]] bool has(const std::string &words) const { return text().find(words) != std::string::npos; }
  [[nodiscard]] std::size_t count(const std::string &words) const {
    std::size_t times = 0;
    const std::string all = text();
    for (std::size_t at = all.find(words); at != std::string::npos; at = all.find(words, at + 1))
      ++times;
    return times;
  }

private:
  sys::Fd fd_;
};

// php-cgi's side of a connection.
struct FakePhp {
  sys::Fd fd;

  std::string read() const { // what is there now
    std::string all(1U << 20, 0);
    const ssize_t got = ::recv(fd.get(), all.data(), all.size(), MSG_DONTWAIT);
    all.resize(got > 0 ? static_cast<std::size_t>(got) : 0);
    return all;
  }
  [[nodiscard]] bool closed() const {
    char byte = 0;
    return ::recv(fd.get(), &byte, 1, MSG_DONTWAIT | MSG_PEEK) == 0;
  }
  void write(const std::string &bytes) const { (void)!::send(fd.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL); }
  void out(const std::string &text) const {
    std::string records;
    fcgi::append_stream(records, fcgi::RecordType::kStdout, 1, text);
    write(records);
  }
  void answer(const std::string &text) const {
    std::string records;
    fcgi::append_stream(records, fcgi::RecordType::kStdout, 1, text);
    fcgi::append_end_request(records, 1, 0, fcgi::ProtocolStatus::kRequestComplete);
    write(records);
  }
  void finish_early() const { write(std::string("\x01\xc9\x00\x01\x00\x00\x00\x00", 8)); }
};

struct FakeWorker {
  sys::Fd channel, out, err;
  pool::WorkerId id;
  pid_t pid = -1;
  FakePhp php;

  void report(ipc::WorkerReportType type) const {
    ipc::WorkerReport report{};
    report.type = type;
    report.slot = id.index;
    report.generation = id.generation;
    report.pid = pid;
    (void)sys::send_packet(channel.get(), &report, sizeof report, {});
  }
  void hello() const { report(ipc::WorkerReportType::kHello); }
  void accepting() const { report(ipc::WorkerReportType::kAccepting); }
  // The connection that it was given; false: none.
  bool take_connection() {
    ipc::ChannelMessage message{};
    (void)sys::set_nonblocking(channel.get(), true);
    sys::Packet packet = sys::receive_packet(channel.get(), &message, sizeof message);
    if (packet.length != static_cast<ssize_t>(sizeof message) || packet.fds.size() != 1)
      return false;
    php.fd = std::move(packet.fds.front());
    return message == ipc::ChannelMessage::kConnection;
  }
  void say(const std::string &text) const { (void)!::write(err.get(), text.data(), text.size()); }
  // As a process that ends: everything that it has open is closed.
  void vanish() {
    channel.reset();
    out.reset();
    err.reset();
    php.fd.reset();
  }
};

// What a hostile or broken worker may do at any time. kEnd: it should end now, which is the caller's to do; kNone: it
// behaves for once.
enum class Move { kMade, kEnd, kNone };
// One of `of` moves by chance, eight of which are not kNone; output is less than `most` bytes.
template <class Random> Move hostile_move(FakeWorker &worker, Random &random, unsigned of, std::size_t most) {
  const auto chance = [&random](unsigned in) { return random() % in == 0; };
  switch (random() % of) {
  case 0:
    worker.php.out(std::string(random() % most, 'o'));
    return Move::kMade;
  case 1:
    worker.php.finish_early();
    return Move::kMade;
  case 2:
    worker.php.fd.reset();
    return Move::kMade;
  case 3:
    worker.php.fd.reset();
    worker.accepting();
    return Move::kMade;
  case 4:
    if (chance(6))
      worker.report(static_cast<ipc::WorkerReportType>(random() % 6));
    return Move::kMade;
  case 5:
    return chance(4) ? Move::kEnd : Move::kMade;
  case 6:
    if (chance(6))
      worker.php.write("nonsense");
    return Move::kMade;
  case 7:
    worker.say("a line\nand a part");
    return Move::kMade;
  default:
    return Move::kNone;
  }
}

struct FakeTemplate {
  sys::Fd control, out, err, settings;
  pid_t pid = -1;

  void reply(ipc::TemplateReplyType type, pool::WorkerId id = {}, int error = 0) const {
    ipc::TemplateReply reply{};
    reply.type = type;
    reply.slot = id.index;
    reply.generation = id.generation;
    reply.errno_ = error;
    reply.pid = pid;
    reply.facts = ipc::PhpFacts{80200, ipc::kFixPathInfo};
    (void)sys::send_packet(control.get(), &reply, sizeof reply, {});
  }
  void ready() const {
    reply(ipc::TemplateReplyType::kLoaded);
    reply(ipc::TemplateReplyType::kReady);
  }
  // An order for a worker; null: none.
  std::unique_ptr<FakeWorker> order() const {
    ipc::TemplateRequest request{};
    (void)sys::set_nonblocking(control.get(), true);
    sys::Packet packet = sys::receive_packet(control.get(), &request, sizeof request);
    if (packet.length != static_cast<ssize_t>(sizeof request) || packet.fds.size() != 3)
      return nullptr;
    auto worker = std::make_unique<FakeWorker>();
    worker->channel = std::move(packet.fds[0]);
    worker->out = std::move(packet.fds[1]);
    worker->err = std::move(packet.fds[2]);
    worker->id = pool::WorkerId{request.slot, request.generation};
    return worker;
  }
  [[nodiscard]] bool let_go() const {
    char byte = 0;
    return ::recv(control.get(), &byte, 1, MSG_DONTWAIT | MSG_PEEK) == 0;
  }
};

struct FakeSpawner {
  sys::Fd control; // its end
  struct Order {
    ipc::SpawnerRequest request{};
    std::string path; // kLook
    std::vector<sys::Fd> fds;
  };
  // The next order; false: none.
  bool next(Order &order) const {
    ipc::LookRequest buffer{};
    (void)sys::set_nonblocking(control.get(), true);
    sys::Packet packet = sys::receive_packet(control.get(), &buffer, sizeof buffer);
    if (packet.length <= 0)
      return false;
    order = Order{};
    memcpy(&order.request, &buffer, sizeof order.request);
    if (buffer.kind == ipc::SpawnKind::kLook)
      order.path.assign(buffer.path, buffer.length);
    order.fds = std::move(packet.fds);
    return true;
  }
  void reply(const Order &order, int pid, std::uint32_t memory = 0, int error = 0) const {
    const ipc::SpawnerReply reply{order.request.kind, order.request.id, pid, error != 0 ? 7 : 0, error, memory};
    (void)sys::send_packet(control.get(), &reply, sizeof reply, {});
  }
};

// What an event was, kept beyond the next one.
struct Seen {
  workers::Event event;
  std::string records;
};

// A set of workers with its fakes.
class FakePool {
public:
  using Kind = workers::Event::Kind;

  explicit FakePool(bool fork_mode = true) : fork_mode_(fork_mode) {
    (void)::signal(SIGPIPE, SIG_IGN);
    pool.name = "www";
    pool.php_binary = "/usr/bin/php-cgi";
    pool.pm = config::ProcessManagerKind::kStatic;
    pool.pm_max_children = 1;
    pool.catch_workers_output = true;
    pool.decorate_workers_output = true;
    global.log_limit = 1024;
    global.log_buffering = true;
  }

  // After the settings have been changed.
  void open() {
    auto pair = sys::packet_pair();
    spawner.control = std::move(pair.value().theirs);
    spawner_pid = processes.add();
    workers = std::make_unique<workers::Workers>(
        loop.loop, pool,
        workers::WorkersSettings{fork_mode_,
                                 {},
                                 global,
                                 *static_cast<status::Scoreboard *>(board.data()),
                                 *static_cast<status::ProcessBoard *>(process_board.data()),
                                 processes},
        spawner::SpawnerProcess{spawner_pid, std::move(pair.value().ours)});
    workers->begin();
    run();
  }

  // One turn of the loop.
  bool turn() {
    bool any = loop.engine.turn();
    if (!processes.ends.empty())
      workers->note_children();
    workers::Event event;
    while (workers->next(event)) {
      any = true;
      seen.push_back(Seen{event, std::string(event.records)});
      if (on_event)
        on_event(event);
    }
    if (decides)
      workers->decide(queued, wanted, draining, loop.engine.now());
    workers->settle(loop.engine.now());
    return any;
  }
  // Until nothing happens any more.
  void run() {
    for (int i = 0; i < 100 && (turn() || i < 2); ++i) {
    }
  }
  void wait(Duration time) {
    loop.engine.advance(time);
    run();
  }

  // --- fork mode
  void start_template() {
    FakeSpawner::Order order;
    ASSERT_TRUE(spawner.next(order));
    ASSERT_EQ(order.request.kind, ipc::SpawnKind::kTemplate);
    ASSERT_GE(order.fds.size(), 3U);
    tmpl.control = std::move(order.fds[0]);
    tmpl.out = std::move(order.fds[1]);
    tmpl.err = std::move(order.fds[2]);
    tmpl.pid = processes.add();
    spawner.reply(order, tmpl.pid);
    tmpl.ready();
    run();
  }
  // A worker that is idle.
  std::unique_ptr<FakeWorker> start_worker() {
    auto worker = tmpl.order();
    if (worker == nullptr)
      return nullptr;
    worker->pid = processes.add();
    worker->hello();
    worker->accepting();
    run();
    EXPECT_TRUE(worker->take_connection());
    return worker;
  }
  std::unique_ptr<FakeWorker> up() {
    open();
    start_template();
    return start_worker();
  }

  std::unique_ptr<pool::Request> request(const std::string &body = "", bool complete = true) {
    auto made = std::make_unique<pool::Request>();
    made->key = next_key_++;
    made->id = 1;
    std::string content;
    fcgi::append_pair(content, "SCRIPT_FILENAME", "/x.php");
    fcgi::append_pair(content, "REQUEST_METHOD", "GET");
    fcgi::append_pair(content, "REQUEST_URI", "/x");
    (void)made->params.assign(content);
    fcgi::append_stream(made->body, fcgi::RecordType::kStdin, 1, body);
    if (complete)
      fcgi::append_stream_end(made->body, fcgi::RecordType::kStdin, 1);
    made->body_complete = complete;
    made->started = loop.engine.now();
    return made;
  }
  static std::string head() {
    std::string head;
    fcgi::append_begin_request(head, 1, fcgi::Role::kResponder, true);
    fcgi::append_params(head, 1, "", "");
    return head;
  }
  bool assign(pool::Request &request) {
    const auto idle = workers->idle_worker(request.variant);
    return idle && workers->assign(request, *idle, head(), loop.engine.now());
  }

  [[nodiscard]] std::size_t count(Kind kind) const {
    return static_cast<std::size_t>(
        std::count_if(seen.begin(), seen.end(), [kind](const Seen &each) { return each.event.kind == kind; }));
  }
  [[nodiscard]] const Seen *last(Kind kind) const {
    const auto found =
        std::find_if(seen.rbegin(), seen.rend(), [kind](const Seen &each) { return each.event.kind == kind; });
    return found == seen.rend() ? nullptr : &*found;
  }
  [[nodiscard]] std::size_t state(pool::WorkerState state) const { return workers->table().count(state); }
  [[nodiscard]] std::uint64_t metric(status::Metric metric) const {
    return static_cast<const status::Scoreboard *>(board.data())->get(metric);
  }

  static sys::Mapping zeroes(std::size_t size) {
    auto fd = sys::memory_file("test", size);
    return std::move(sys::Mapping::map(fd.value().get(), size).value());
  }

  sys::Mapping board = zeroes(sizeof(status::Scoreboard));
  sys::Mapping process_board = zeroes(sizeof(status::ProcessBoard));
  FakeLog log;
  FakeLoop loop;
  config::GlobalConfig global;
  config::PoolConfig pool;
  FakeProcesses processes;
  FakeSpawner spawner;
  pid_t spawner_pid = -1;
  FakeTemplate tmpl;
  std::unique_ptr<workers::Workers> workers;
  std::vector<Seen> seen;
  std::function<void(const workers::Event &)> on_event;
  bool decides = true;
  bool draining = false;
  std::size_t queued = 0;
  pool::Match wanted;

private:
  bool fork_mode_;
  pool::RequestKey next_key_ = 1;
};

} // namespace tqfpm::test
