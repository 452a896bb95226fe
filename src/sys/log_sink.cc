#include "sys/log_sink.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <climits>
#include <cstring>

#include "sys/place.h"
#include "sys/socket.h"

namespace tqfpm::sys {

namespace {

constexpr Duration kRetry = seconds(1); // what no event tells of: a disk with room again, a syslog daemon that is back
constexpr char kSyslogPath[] = "/dev/log";
constexpr std::size_t kSyslogLongest = 8192; // of a datagram, if the kernel does not take it whole

bool is_pipe(const struct stat &info) {
  return S_ISFIFO(info.st_mode);
}

} // namespace

Fd own_description(int fd) {
  struct stat info {};
  const bool known = ::fstat(fd, &info) == 0;
  if (known && (is_pipe(info) || ::isatty(fd) == 1)) {
    const std::string path = "/proc/self/fd/" + std::to_string(fd);
    Fd own(::open(path.c_str(), O_WRONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK));
    if (own.valid())
      return own;
  }
  return Fd(::fcntl(fd, F_DUPFD_CLOEXEC, 3));
}

Result<Fd> open_log(const std::string &path) {
  const auto fail = [&path](const std::string &why, int code) {
    return Error{"failed to open log file '" + path + "': " + why, code};
  };
  int inherited = descriptor_named(path);
  Place place;
  if (inherited < 0) {
    auto found = place_of(path);
    if (!found.ok())
      return fail(found.error().message, found.error().code);
    place = std::move(found.value());
    inherited = descriptor_named(place.name);
  }
  if (inherited >= 0) {
    Fd own = own_description(inherited);
    return own.valid() ? Result<Fd>(std::move(own)) : fail(strerror(errno), errno);
  }
  // A FIFO that nobody reads: with both ends in our hand it can be opened, and what is written waits in it.
  struct stat info {};
  const bool there =
      ::fstatat(place.folder.get(), place.name.c_str(), &info, place.magic ? 0 : AT_SYMLINK_NOFOLLOW) == 0;
  const int access = there && is_pipe(info) ? O_RDWR : O_WRONLY | O_CREAT;
  Fd fd(::openat(place.folder.get(), place.name.c_str(),
                 access | O_APPEND | O_CLOEXEC | O_NOCTTY | O_NONBLOCK | (place.magic ? 0 : O_NOFOLLOW), 0600));
  return fd.valid() ? Result<Fd>(std::move(fd)) : fail(strerror(errno), errno);
}

LogSink::LogSink() : LogSink(&::write) {}
LogSink::LogSink(FileWriter::Write write) : write_(std::move(write)) {}
LogSink::~LogSink() = default;

LogSink::Kind LogSink::kind_of(int fd) const {
  struct stat info {};
  if (::fstat(fd, &info) != 0 || S_ISREG(info.st_mode))
    return Kind::kFile;
  if (S_ISSOCK(info.st_mode))
    return Kind::kSocket;
  return (::fcntl(fd, F_GETFL) & O_NONBLOCK) != 0 ? Kind::kNonblocking : Kind::kGuarded;
}

void LogSink::take(Fd fd) {
  watch_.reset();
  front_sent_ = 0; // a line that was cut is whole in the new file
  const Kind kind = kind_of(fd.get());
  if (kind != Kind::kFile)
    leave_file();
  kind_ = kind;
  if (has_writer() || (kind == Kind::kFile && loop_ != nullptr)) {
    fd_.reset();
    hand_over(std::move(fd));
    return;
  }
  fd_ = std::move(fd);
  flush();
}

void LogSink::take_syslog() {
  watch_.reset();
  leave_file();
  kind_ = Kind::kSyslog;
  (void)dial_syslog();
}

bool LogSink::dial_syslog() {
  fd_ = Fd(::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  const auto address = UnixAddress::of(kSyslogPath);
  return fd_.valid() && ::connect(fd_.get(), address->get(), address->size()) == 0;
}

// --- a regular file, by a thread ------------------------------------------------------------------------------------

// What is kept goes before the next lines.
void LogSink::hand_over(Fd file) {
  if (writer_ == nullptr)
    writer_ = std::make_unique<FileWriter>(write_);
  writer_->use(std::move(file));
  writer_->add_lost(std::exchange(lost_, 0));
  kept_bytes_ = 0;
  for (const std::string &line : std::exchange(kept_, {}))
    write_by_thread(std::string_view(line).substr(std::exchange(front_sent_, 0)));
}

void LogSink::write_by_thread(std::string_view line) {
  if (writer_->add(line))
    retry();
}

// It gets the lines that it has been given and is closed.
void LogSink::leave_file() {
  if (has_writer())
    writer_->use(Fd());
}

void LogSink::tell_of_lost() {
  lost_ += writer_->take_lost();
  flows();
}

// --- writing --------------------------------------------------------------------------------------------------------

// A description that we share with others. The kernel writes without waiting if asked (pwritev2); where it cannot be
// asked poll() tells that there is room for PIPE_BUF bytes, which somebody else may take between the two calls: then
// this write waits for the reader, once.
ssize_t LogSink::put_guarded(std::string_view data) {
  const iovec part{const_cast<char *>(data.data()), data.size()}; // NOLINT(cppcoreguidelines-pro-type-const-cast)
  const ssize_t written = ::pwritev2(fd_.get(), &part, 1, -1, RWF_NOWAIT);
  if (written >= 0 || (errno != EOPNOTSUPP && errno != EINVAL && errno != ENOSYS && errno != ESPIPE))
    return written;
  pollfd state{fd_.get(), POLLOUT, 0};
  if (::poll(&state, 1, 0) <= 0) {
    errno = EAGAIN;
    return -1;
  }
  return ::write(fd_.get(), data.data(), std::min<std::size_t>(data.size(), PIPE_BUF));
}

// A daemon that has started anew has another socket under the same name.
ssize_t LogSink::put_syslog(std::string_view data) {
  if (data.ends_with('\n'))
    data.remove_suffix(1);
  for (int i = 0; i < 2; ++i) {
    ssize_t sent = ::send(fd_.get(), data.data(), data.size(), MSG_DONTWAIT | MSG_NOSIGNAL);
    if (sent < 0 && errno == EMSGSIZE)
      sent = ::send(fd_.get(), data.data(), std::min(data.size(), kSyslogLongest), MSG_DONTWAIT | MSG_NOSIGNAL);
    if (sent >= 0)
      return static_cast<ssize_t>(data.size()) + 1; // a datagram goes as a whole
    if (errno == EINTR || is_temporary(errno) || i > 0 || !dial_syslog())
      break;
  }
  return -1;
}

ssize_t LogSink::put(std::string_view data) {
  switch (kind_) {
  case Kind::kSocket:
    return ::send(fd_.get(), data.data(), data.size(), MSG_DONTWAIT | MSG_NOSIGNAL);
  case Kind::kSyslog:
    return put_syslog(data);
  case Kind::kGuarded:
    return put_guarded(data);
  case Kind::kFile:
  case Kind::kNonblocking:
    break;
  }
  return ::write(fd_.get(), data.data(), data.size());
}

LogSink::Outcome LogSink::put_line(const std::string &line, std::size_t &sent) {
  while (sent < line.size()) {
    const ssize_t got = put(std::string_view(line).substr(sent));
    if (got < 0 && errno == EINTR)
      continue;
    if (got <= 0) {
      told_by_poll_ = got < 0 && errno == EAGAIN && kind_ != Kind::kSyslog;
      return got == 0 || is_temporary(errno) ? Outcome::kLater : Outcome::kGone;
    }
    sent += static_cast<std::size_t>(got);
  }
  return Outcome::kWritten;
}

void LogSink::write(std::string line) {
  if (has_writer()) {
    write_by_thread(line);
    return;
  }
  if (!kept_.empty())
    flush();
  if (kept_.empty()) {
    std::size_t sent = 0;
    switch (put_line(line, sent)) {
    case Outcome::kWritten:
      flows();
      return;
    case Outcome::kGone:
      ++lost_;
      return;
    case Outcome::kLater:
      front_sent_ = sent;
    }
  } else if (kept_bytes_ + line.size() > kRoom) {
    ++lost_;
    return;
  }
  kept_bytes_ += line.size();
  kept_.push_back(std::move(line));
  arm();
}

void LogSink::flush() {
  while (!kept_.empty()) {
    const Outcome result = put_line(kept_.front(), front_sent_);
    if (result == Outcome::kLater) {
      arm();
      return;
    }
    lost_ += result == Outcome::kGone ? 1 : 0;
    kept_bytes_ -= kept_.front().size();
    kept_.pop_front();
    front_sent_ = 0;
    if (result == Outcome::kWritten && kept_.empty())
      flows();
  }
  if (watch_ != nullptr)
    watch_->set(0);
}

void LogSink::flows() {
  if (lost_ > 0 && on_lost_)
    on_lost_(std::exchange(lost_, 0));
}

// --- the loop -------------------------------------------------------------------------------------------------------

void LogSink::attach(EventLoop &loop) {
  loop_ = &loop;
  timer_ = std::make_unique<TimerWatch>(loop, [this] { on_timer(); });
  if (kind_ == Kind::kFile && fd_.valid())
    hand_over(std::move(fd_));
  if (!kept_.empty())
    flush();
}

void LogSink::detach() {
  watch_.reset();
  timer_.reset();
  loop_ = nullptr;
}

void LogSink::on_timer() {
  flush();
  if (writer_ == nullptr)
    return;
  tell_of_lost();
  if (writer_->owes())
    retry();
}

void LogSink::retry() {
  if (loop_ != nullptr && timer_->due() == TimePoint::max())
    timer_->at(loop_->now() + kRetry);
}

void LogSink::arm() {
  if (loop_ == nullptr)
    return;
  if (!told_by_poll_) {
    retry();
    return;
  }
  if (watch_ == nullptr)
    watch_ = std::make_unique<IoWatch>(*loop_, fd_.get(), [this](unsigned) { flush(); });
  watch_->set(kWritable);
}

void LogSink::finish(Duration patience) {
  const TimePoint deadline = Clock::now() + patience;
  if (writer_ != nullptr) {
    (void)writer_->wait(patience);
    tell_of_lost();
    (void)writer_->wait(std::max(deadline - Clock::now(), Duration::zero()));
  }
  flush();
  while (!kept_.empty() && Clock::now() < deadline) {
    const auto left = std::chrono::duration_cast<milliseconds>(deadline - Clock::now()).count();
    pollfd state{told_by_poll_ ? fd_.get() : -1, POLLOUT, 0};
    (void)::poll(&state, 1, static_cast<int>(told_by_poll_ ? left : std::min<std::int64_t>(left, 50)) + 1);
    flush();
  }
}

} // namespace tqfpm::sys
