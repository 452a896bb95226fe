// Where lines of a log go, without ever waiting for it.
//
// A log that takes nothing at the moment (a pipe whose reader is slow, a terminal that is stopped, a full disk) must
// not hold up an event loop. What it does not take is kept, up to kRoom bytes, and written when it does; beyond that
// lines are lost, counted, and the loss is told when it flows again. A regular file of a sink with a loop is written by
// a thread: see FileWriter, with room of its own.
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <utility>

#include "base/clock.h"
#include "base/result.h"
#include "sys/event_loop.h"
#include "sys/fd.h"
#include "sys/file_writer.h"

namespace tqfpm::sys {

// Opens a log file for lines: for appending, created with mode 0600. /dev/stderr and /dev/stdout mean the descriptors
// of this process. The result never blocks where the kernel lets us have a description of our own.
Result<Fd> open_log(const std::string &path);
// A description of our own of what `fd` is open to; where that cannot be had the shared one.
//
// O_NONBLOCK belongs to the description: set on a terminal or pipe that we were given it would hit the shell and
// whatever else writes there. So pipes and terminals are opened anew; a duplicate does for files, which do not block,
// and for sockets, which have MSG_DONTWAIT.
Fd own_description(int fd);

class LogSink {
public:
  static constexpr std::size_t kRoom = 1U << 20;
  using OnLost = std::function<void(std::uint64_t lines)>;

  LogSink();
  explicit LogSink(FileWriter::Write write); // what writes to regular files by a thread: a test's
  ~LogSink();
  LogSink(const LogSink &) = delete;
  LogSink &operator=(const LogSink &) = delete;

  // What is kept for the descriptor before goes to this one; what a thread has, to the file before.
  void take(Fd fd);
  // Messages go to /dev/log, one line a datagram. (syslog(3) would wait for a daemon that does not read.)
  void take_syslog();
  [[nodiscard]] bool is_syslog() const { return kind_ == Kind::kSyslog; }
  [[nodiscard]] bool valid() const { return fd() >= 0; }
  [[nodiscard]] int fd() const { return has_writer() ? writer_->fd() : fd_.get(); }
  // Called when lines that were lost can be told about, never by the writing thread: it may write().
  void on_lost(OnLost callback) { on_lost_ = std::move(callback); }

  void write(std::string line); // a whole line with its newline
  // With a loop what was kept is written as soon as possible, files by a thread; without one when the next line comes.
  void attach(EventLoop &loop);
  void detach(); // before the loop goes; does not wait
  // Waits until all is written, but not longer than `patience`.
  void finish(Duration patience);
  // What has been logged is in the file when this returns, so that whoever is told of something finds it there; within
  // `patience`, and without any where the disk does not keep up.
  void catch_up(Duration patience) {
    if (writer_ != nullptr)
      writer_->catch_up(patience);
  }
  // A write is under way and does not come back. While the disk stands neither exec nor exit get past it.
  [[nodiscard]] bool stands() const { return writer_ != nullptr && writer_->in_call(); }

private:
  // kGuarded: a description that others share and that may block.
  enum class Kind : std::uint8_t { kFile, kNonblocking, kSocket, kSyslog, kGuarded };
  enum class Outcome : std::uint8_t { kWritten, kLater, kGone };

  [[nodiscard]] Kind kind_of(int fd) const;
  [[nodiscard]] bool has_writer() const { return kind_ == Kind::kFile && writer_ != nullptr; }
  void hand_over(Fd file);
  void write_by_thread(std::string_view line);
  void leave_file();
  ssize_t put(std::string_view data);
  ssize_t put_guarded(std::string_view data);
  ssize_t put_syslog(std::string_view data);
  bool dial_syslog();
  Outcome put_line(const std::string &line, std::size_t &sent);
  void flush();
  void flows();
  void tell_of_lost();
  void on_timer();
  void arm();
  void retry();

  FileWriter::Write write_;
  std::unique_ptr<FileWriter> writer_; // has the descriptor and the lines where has_writer()
  Fd fd_;
  Kind kind_ = Kind::kFile;
  std::deque<std::string> kept_;
  std::size_t kept_bytes_ = 0;
  std::size_t front_sent_ = 0; // of the first one
  bool told_by_poll_ = false;  // when more can be written; else it is tried from time to time
  std::uint64_t lost_ = 0;
  OnLost on_lost_;
  EventLoop *loop_ = nullptr;
  std::unique_ptr<IoWatch> watch_; // of fd_
  std::unique_ptr<TimerWatch> timer_;
};

} // namespace tqfpm::sys
