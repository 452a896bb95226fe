// Regular files of a log, written by a thread: what a disk does that stands, is full or fails.
#include "sys/log_sink.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <cerrno>
#include <condition_variable>
#include <cstdlib>
#include <fstream>
#include <iterator>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "fake_loop.h"

namespace tqfpm::sys {
namespace {

// A disk that does what a test says; what it takes is in real files.
class Disk {
public:
  FileWriter::Write write() {
    return [this](int fd, const char *data, std::size_t size) { return put(fd, data, size); };
  }
  void stand() {
    set([this] { stands_ = true; });
  }
  void fail(int code, std::size_t room = 0) {
    set([&] {
      code_ = code;
      room_ = room;
    });
  }
  void work() {
    set([this] {
      stands_ = false;
      code_ = 0;
    });
  }
  [[nodiscard]] int calls() {
    const std::lock_guard lock(mutex_);
    return calls_;
  }
  // A write has come that does not return.
  void wait_for_writer() {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [this] { return inside_; });
  }
  void wait_for_failure() {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [this] { return failed_; });
  }
  [[nodiscard]] std::thread::id writer() {
    const std::lock_guard lock(mutex_);
    return writer_;
  }

private:
  template <typename F> void set(F what) {
    const std::lock_guard lock(mutex_);
    what();
    changed_.notify_all();
  }
  ssize_t put(int fd, const char *data, std::size_t size) {
    std::unique_lock lock(mutex_);
    ++calls_;
    writer_ = std::this_thread::get_id();
    inside_ = true;
    changed_.notify_all();
    changed_.wait(lock, [this] { return !stands_; });
    inside_ = false;
    if (code_ != 0 && room_ == 0) {
      failed_ = true;
      changed_.notify_all();
      errno = code_;
      return -1;
    }
    const std::size_t some = code_ != 0 ? std::min(size, room_) : size;
    room_ -= std::min(some, room_);
    return ::write(fd, data, some);
  }

  std::mutex mutex_;
  std::condition_variable changed_;
  std::thread::id writer_;
  bool stands_ = false;
  bool inside_ = false;
  bool failed_ = false;
  int code_ = 0;
  std::size_t room_ = 0;
  int calls_ = 0;
};

class LogSinkTest : public testing::Test {
protected:
  LogSinkTest() {
    EXPECT_NE(::mkdtemp(folder_.data()), nullptr);
    sink_.on_lost([this](std::uint64_t lines) {
      EXPECT_EQ(std::this_thread::get_id(), self_);
      lost_ += lines;
      sink_.write("lost\n");
    });
  }
  ~LogSinkTest() override {
    disk_.work();
    sink_.detach();
    for (const std::string &each : made_)
      (void)::unlink(each.c_str());
    (void)::rmdir(folder_.c_str());
  }
  Fd open(const std::string &name) {
    made_.push_back(folder_ + "/" + name);
    return std::move(open_log(made_.back()).value());
  }
  std::string read(const std::string &name) {
    std::ifstream file(folder_ + "/" + name);
    return {std::istreambuf_iterator<char>(file), {}};
  }
  void attach() {
    sink_.take(open("log"));
    sink_.attach(fake_.loop);
  }
  void turn_after(Duration time) {
    fake_.engine.advance(time);
    (void)fake_.engine.turn();
  }

  const std::thread::id self_ = std::this_thread::get_id();
  std::string folder_ = "/tmp/tqfpm-log-XXXXXX";
  std::vector<std::string> made_;
  test::FakeLoop fake_;
  Disk disk_;
  LogSink sink_{disk_.write()};
  std::uint64_t lost_ = 0;
};

TEST_F(LogSinkTest, WithoutALoopLinesAreWrittenAtOnce) {
  sink_.take(open("log"));
  sink_.write("a\n");
  EXPECT_EQ(read("log"), "a\n");
  EXPECT_EQ(disk_.calls(), 0);
}

TEST_F(LogSinkTest, WithALoopAnotherThreadWrites) {
  attach();
  std::string all;
  for (int i = 0; i < 20000; ++i) {
    const std::string line = "line " + std::to_string(i) + "\n";
    all += line;
    sink_.write(line);
  }
  sink_.finish(seconds(20));
  EXPECT_EQ(read("log"), all);
  EXPECT_NE(disk_.writer(), self_);
  EXPECT_LT(disk_.calls(), 10000);
  EXPECT_EQ(fake_.engine.next_timer(), TimePoint::max());
  EXPECT_GE(sink_.fd(), 0);
}

TEST_F(LogSinkTest, ADiskThatStandsIsNotWaitedFor) {
  attach();
  disk_.stand();
  sink_.write("first\n");
  disk_.wait_for_writer();
  EXPECT_TRUE(sink_.stands());
  const std::string line(1023, 'x');
  for (int i = 0; i < 20000; ++i)
    sink_.write(line + "\n");
  turn_after(seconds(1));
  EXPECT_EQ(lost_, 0U); // there is nowhere to tell it
  sink_.finish(milliseconds(10));
  sink_.detach();
  sink_.attach(fake_.loop);
  disk_.work();
  sink_.finish(seconds(20));
  EXPECT_FALSE(sink_.stands());
  EXPECT_EQ(lost_, 20000 - (FileWriter::kRoom - 6) / 1024);
  const std::string got = read("log");
  EXPECT_EQ(got.size(), 6 + (20000 - lost_) * 1024 + 5);
  EXPECT_TRUE(got.starts_with("first\nxxx") && got.ends_with("x\nlost\n"));
}

TEST_F(LogSinkTest, TheLoopTellsOfLostLines) {
  attach();
  disk_.fail(EIO);
  sink_.write("a\n");
  sink_.finish(seconds(20));
  disk_.work();
  sink_.write("b\n");
  sink_.finish(milliseconds(0)); // written or not
  for (int i = 0; i < 1000 && lost_ == 0; ++i) {
    std::this_thread::sleep_for(milliseconds(1));
    turn_after(seconds(1));
  }
  sink_.finish(seconds(20));
  EXPECT_EQ(lost_, 1U);
  EXPECT_EQ(read("log"), "b\nlost\n");
}

TEST_F(LogSinkTest, WhatAFullDiskDoesNotTakeIsWrittenLater) {
  attach();
  disk_.fail(ENOSPC, 4);
  sink_.write("one\ntwo\n");
  sink_.write("three\n");
  disk_.wait_for_failure();
  EXPECT_EQ(read("log"), "one\n");
  for (int i = 0; i < 1000 && sink_.stands(); ++i) // it is coming back from its call
    std::this_thread::sleep_for(milliseconds(1));
  EXPECT_FALSE(sink_.stands());
  disk_.work();
  sink_.finish(seconds(20));
  EXPECT_EQ(read("log"), "one\ntwo\nthree\n");
  EXPECT_EQ(lost_, 0U);
}

TEST_F(LogSinkTest, LinesStayWithTheFileThatTheyWereMeantFor) {
  attach();
  disk_.stand();
  sink_.write("a\n");
  disk_.wait_for_writer();
  sink_.write("b\n");
  const int old = sink_.fd();
  sink_.take(open("log.1"));
  sink_.write("c\n");
  EXPECT_NE(::fcntl(old, F_GETFD), -1); // closing waits for the disk, too
  disk_.work();
  sink_.finish(seconds(20));
  EXPECT_EQ(read("log"), "a\nb\n");
  EXPECT_EQ(read("log.1"), "c\n");
  for (int i = 0; i < 1000 && ::fcntl(old, F_GETFD) != -1; ++i)
    std::this_thread::sleep_for(milliseconds(1));
  EXPECT_EQ(::fcntl(old, F_GETFD), -1);
  EXPECT_NE(::fcntl(sink_.fd(), F_GETFD), -1);
}

TEST_F(LogSinkTest, ANewFileGetsWhatAFullOneDoesNotTake) {
  attach();
  disk_.fail(ENOSPC, 3);
  sink_.write("a\n");
  sink_.write("cut\n");
  disk_.wait_for_failure();
  sink_.take(open("log.1"));
  disk_.work();
  sink_.write("c\n");
  sink_.finish(seconds(20));
  // Whichever comes first, the new file or room in the old one: no line is lost, none is in two.
  const std::string both = read("log") + "|" + read("log.1");
  EXPECT_TRUE(both == "a\nc|cut\nc\n" || both == "a\ncut\n|c\n") << both;
}

TEST_F(LogSinkTest, APipeInThePlaceOfAFile) {
  attach();
  sink_.write("a\n");
  int fds[2];
  ASSERT_EQ(::pipe2(fds, O_CLOEXEC | O_NONBLOCK), 0);
  const Fd reader(fds[0]);
  sink_.take(Fd(fds[1]));
  sink_.write("b\n");
  char text[10];
  EXPECT_EQ(::read(reader.get(), text, sizeof text), 2);
  sink_.take(open("log.1"));
  sink_.write("c\n");
  sink_.finish(seconds(20));
  EXPECT_EQ(read("log") + read("log.1"), "a\nc\n");
}

// A sink goes although the disk stands; the thread ends when it does not any more.
TEST(LogSink, GoesBeforeItsThread) {
  static Disk &disk = *new Disk; // the thread may be there until the end
  test::FakeLoop fake;
  const TimePoint begin = Clock::now();
  {
    LogSink sink(disk.write());
    sink.take(std::move(open_log("/tmp/tqfpm-log-" + std::to_string(::getpid())).value()));
    sink.attach(fake.loop);
    disk.stand();
    sink.write("a\n");
    disk.wait_for_writer();
    sink.detach();
  }
  EXPECT_LT(Clock::now() - begin, seconds(5));
  disk.work();
  (void)::unlink(("/tmp/tqfpm-log-" + std::to_string(::getpid())).c_str());
}

} // namespace
} // namespace tqfpm::sys
