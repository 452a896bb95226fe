#include "master/check.h"

#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <utility>

#include "base/wait_status.h"
#include "sys/paths.h"
#include "sys/socket.h"

namespace tqfpm::master {

namespace {
constexpr Duration kLimit = seconds(60);
} // namespace

Result<std::unique_ptr<Check>> Check::start(sys::EventLoop &loop, const std::vector<std::string> &command) {
  std::vector<std::string> arguments = command;
  arguments.insert(arguments.begin() + 1, "-t");
  auto program = sys::start_program(sys::program_path(), arguments);
  if (!program.ok())
    return program.error();
  (void)sys::set_nonblocking(program.value().output.get(), true);
  return std::make_unique<Check>(loop, std::move(program.value()));
}

Check::Check(sys::EventLoop &loop, sys::RunningProgram program)
    : program_(std::move(program)), watch_(loop, program_.output.get(), [this](unsigned) { read(); }),
      limit_(loop, [this] { overdue(); }) {
  watch_.set(sys::kReadable);
  limit_.at(Clock::now() + kLimit);
}

Check::~Check() {
  if (program_.pid > 0)
    (void)::kill(program_.pid, SIGKILL);
}

void Check::read() {
  char buffer[4096];
  for (int i = 0; i < 16; ++i) {
    const ssize_t got = ::read(program_.output.get(), buffer, sizeof buffer);
    if (got < 0 && errno == EINTR)
      continue;
    if (got == 0)
      watch_.set(0);
    if (got <= 0)
      return;
    if (text_.size() < sys::kMostOutput)
      text_.append(buffer, static_cast<std::size_t>(got));
  }
}

void Check::overdue() {
  overdue_ = true;
  (void)::kill(program_.pid, SIGKILL);
}

Status Check::ended(int wait_status) {
  program_.pid = -1;
  read();
  if (overdue_)
    return Error{"the check of the configuration did not end in time"};
  if (ended_well(wait_status))
    return success();
  return Error{text_.empty() ? "the check of the configuration " + end_text(wait_status) : text_};
}

} // namespace tqfpm::master
