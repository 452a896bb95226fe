// From one image of the master to the next: the state goes in a memory file whose number is in the environment.
#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <charconv>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <sstream>

#include "base/wait_status.h"
#include "config/dump.h"
#include "master/master.h"
#include "sys/log.h"
#include "sys/paths.h"
#include "sys/process.h"
#include "sys/sd.h"

namespace tqfpm::master {

namespace {

constexpr char kStateVariable[] = "TQFPM_STATE";

void keep(int fd) {
  (void)::fcntl(fd, F_SETFD, 0);
}
void protect(int fd) {
  (void)::fcntl(fd, F_SETFD, FD_CLOEXEC);
}

// One line a thing: words separated by tabs, the free text last.
std::string write_state(int config, const std::vector<std::unique_ptr<Pool>> &pools, int processes) {
  std::string state = "tqfpm-state\t1\n";
  state += fmt::format("config\t{}\t-\n", config);
  keep(processes);
  state += fmt::format("processes\t{}\t-\n", processes);
  for (const auto &pool : pools) {
    const auto add_socket = [&state](const sys::Fd &fd, bool given, const config::Address &address) {
      if (!fd.valid())
        return;
      keep(fd.get());
      state += fmt::format("{}\t{}\t{}\n", given ? "given" : "socket", fd.get(), address.text);
    };
    add_socket(pool->listener, pool->listener_given, pool->config.listen);
    add_socket(pool->status_listener, pool->status_listener_given, pool->config.pm_status_listen);
    if (pool->scoreboard_fd.valid()) {
      keep(pool->scoreboard_fd.get());
      state += fmt::format("board\t{}\t{}\n", pool->scoreboard_fd.get(), pool->name);
    }
    for (const auto &generation : pool->generations) {
      keep(generation->control.get());
      state += fmt::format("generation\t{}\t{}\t{}\t{}\t{}\n", generation->control.get(), generation->pid,
                           generation->number, static_cast<int>(generation->phase), pool->name);
    }
  }
  return state;
}

void protect_again(const std::vector<std::unique_ptr<Pool>> &pools, int processes) {
  protect(processes);
  for (const auto &pool : pools) {
    protect(pool->listener.get());
    protect(pool->status_listener.get());
    protect(pool->scoreboard_fd.get());
    for (const auto &generation : pool->generations)
      protect(generation->control.get());
  }
}

void read_line(const std::string &line, Inheritance &inheritance) {
  std::istringstream words(line);
  std::string kind;
  int fd = -1;
  words >> kind >> fd;
  if (fd < 3)
    return;
  protect(fd);
  if (kind == "generation") {
    Inheritance::Member member;
    int phase = 0;
    words >> member.pid >> member.number >> phase;
    member.phase = static_cast<Phase>(phase);
    words.get();
    std::getline(words, member.pool);
    member.control = sys::Fd(fd);
    inheritance.generations.push_back(std::move(member));
    return;
  }
  words.get();
  std::string text;
  std::getline(words, text);
  if (kind == "socket" || kind == "given")
    inheritance.sockets.push_back({text, sys::Fd(fd), kind == "given"});
  else if (kind == "board")
    inheritance.scoreboards.push_back({text, sys::Fd(fd)});
  else if (kind == "processes")
    inheritance.processes = sys::Fd(fd);
  else if (kind == "config") {
    const sys::Fd file(fd);
    if (auto content = sys::read_fd(file.get()); content.ok())
      inheritance.config_text = std::move(content.value());
  }
}

std::string printable(const std::vector<std::string> &command) {
  std::string text;
  for (const std::string &word : command)
    text += (text.empty() ? "\"" : ", \"") + word + "\"";
  return text;
}

} // namespace

Error reexec(const std::vector<std::string> &command, const config::Config &config,
             const std::vector<std::unique_ptr<Pool>> &pools, int processes) {
  const std::string program = sys::program_path();
  auto text = sys::sealed_text("tqfpm-config", config::dump(config));
  if (!text.ok())
    return text.error();
  auto state = sys::sealed_text("tqfpm-state", write_state(text.value().get(), pools, processes));
  if (!state.ok()) {
    protect_again(pools, processes);
    return state.error();
  }
  keep(text.value().get());
  keep(state.value().get());
  ::setenv(kStateVariable, std::to_string(state.value().get()).c_str(), 1);
  sys::log().notice("reloading: execvp(\"{}\", {{{}}})", program, printable(command));
  std::vector<char *> arguments;
  for (const std::string &word : command)
    arguments.push_back(
        const_cast<char *>(word.c_str())); // NOLINT(cppcoreguidelines-pro-type-const-cast): execv's type
  arguments.push_back(nullptr);
  sys::log().sink().finish(milliseconds(100));
  // Pending signals are kept for the new image, which unblocks them when it can obey.
  sigset_t all;
  sigset_t before;
  ::sigfillset(&all);
  (void)::sigprocmask(SIG_SETMASK, &all, &before);
  ::execv(program.c_str(), arguments.data());
  const int code = errno;
  (void)::sigprocmask(SIG_SETMASK, &before, nullptr);
  ::unsetenv(kStateVariable);
  protect_again(pools, processes);
  return Error{"cannot execute " + program + ": " + strerror(code), code};
}

Inheritance take_inheritance() {
  Inheritance inheritance;
  const char *variable = std::getenv(kStateVariable);
  if (variable != nullptr) {
    inheritance.reloaded = true;
    const sys::Fd fd(std::atoi(variable));
    ::unsetenv(kStateVariable);
    const auto state = sys::read_fd(fd.get());
    std::istringstream lines(state.ok() ? state.value() : "");
    for (std::string line; std::getline(lines, line);)
      read_line(line, inheritance);
  }
  for (sys::Fd &fd : sys::sd_sockets()) {
    std::string address = sys::bound_address(fd.get());
    inheritance.sockets.push_back({std::move(address), std::move(fd), true});
  }
  return inheritance;
}

Status validate_with_new_binary(const std::vector<std::string> &command) {
  std::vector<std::string> arguments = command;
  arguments.insert(arguments.begin() + 1, "-t");
  const auto output = sys::run_program(sys::program_path(), arguments, seconds(60));
  if (!output.ok())
    return output.error();
  if (ended_well(output.value().status))
    return success();
  return Error{output.value().text};
}

} // namespace tqfpm::master
