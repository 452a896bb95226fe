// From one image of the master to the next: the state goes in a memory file whose number is in the environment.
#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <cstring>

#include "config/dump.h"
#include "master/handover_state.h"
#include "master/master.h"
#include "sys/log.h"
#include "sys/paths.h"
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

// What stays open over the exec.
std::vector<StateEntry> state_of(int config, const std::vector<std::unique_ptr<Pool>> &pools, int processes) {
  using Kind = StateEntry::Kind;
  std::vector<StateEntry> entries = {{Kind::kConfig, config, "-"}, {Kind::kProcesses, processes, "-"}};
  for (const auto &pool : pools) {
    const auto add_socket = [&entries](const sys::Fd &fd, bool given, const config::Address &address) {
      if (fd.valid())
        entries.push_back({given ? Kind::kGiven : Kind::kSocket, fd.get(), address.text});
    };
    add_socket(pool->listener, pool->listener_given, pool->config.listen);
    add_socket(pool->status_listener, pool->status_listener_given, pool->config.pm_status_listen);
    if (pool->scoreboard_fd.valid())
      entries.push_back({Kind::kBoard, pool->scoreboard_fd.get(), pool->name});
    for (const auto &generation : pool->generations)
      entries.push_back({Kind::kGeneration, generation->control.get(), pool->name, generation->pid, generation->number,
                         static_cast<int>(generation->phase)});
  }
  return entries;
}

void inherit(StateEntry &entry, Inheritance &inheritance) {
  static_assert(static_cast<int>(Phase::kDraining) == StateEntry::kPhases - 1);
  protect(entry.fd);
  sys::Fd fd(entry.fd);
  switch (entry.kind) {
  case StateEntry::Kind::kConfig:
    if (auto content = sys::read_fd(fd.get()); content.ok())
      inheritance.config_text = std::move(content.value());
    return;
  case StateEntry::Kind::kProcesses:
    inheritance.processes = std::move(fd);
    return;
  case StateEntry::Kind::kSocket:
  case StateEntry::Kind::kGiven:
    inheritance.sockets.push_back({std::move(entry.text), std::move(fd), entry.kind == StateEntry::Kind::kGiven});
    return;
  case StateEntry::Kind::kBoard:
    inheritance.scoreboards.push_back({std::move(entry.text), std::move(fd)});
    return;
  case StateEntry::Kind::kGeneration:
    inheritance.generations.push_back(
        {std::move(entry.text), entry.number, entry.pid, static_cast<Phase>(entry.phase), std::move(fd)});
    return;
  case StateEntry::Kind::kUnknown:
    return; // closed: nobody here would
  }
}

std::string printable(const std::vector<std::string> &command) {
  std::string text;
  for (const std::string &word : command)
    text += (text.empty() ? "\"" : ", \"") + word + "\"";
  return text;
}

// Returns only if that is not possible. Pending signals are kept for the new image, which unblocks them when it can
// obey.
Error execute(const std::string &program, char *const *arguments) {
  sigset_t all;
  sigset_t before;
  ::sigfillset(&all);
  (void)::sigprocmask(SIG_SETMASK, &all, &before);
  ::execv(program.c_str(), arguments);
  const int code = errno;
  (void)::sigprocmask(SIG_SETMASK, &before, nullptr);
  return Error{"cannot execute " + program + ": " + strerror(code), code};
}

} // namespace

Error reexec(const std::vector<std::string> &command, const config::Config &config,
             const std::vector<std::unique_ptr<Pool>> &pools, int processes) {
  const std::string program = sys::program_path();
  auto text = sys::sealed_text("tqfpm-config", config::dump(config));
  if (!text.ok())
    return text.error();
  const std::vector<StateEntry> entries = state_of(text.value().get(), pools, processes);
  auto state = sys::sealed_text("tqfpm-state", state_text(entries));
  if (!state.ok())
    return state.error();
  for (const StateEntry &each : entries)
    keep(each.fd);
  keep(state.value().get());
  ::setenv(kStateVariable, std::to_string(state.value().get()).c_str(), 1);
  sys::log().notice("reloading: execvp(\"{}\", {{{}}})", program, printable(command));
  std::vector<char *> arguments;
  for (const std::string &word : command)
    arguments.push_back(
        const_cast<char *>(word.c_str())); // NOLINT(cppcoreguidelines-pro-type-const-cast): execv's type
  arguments.push_back(nullptr);
  sys::log().sink().finish(seconds(1));
  Error failure{"error_log cannot be written at the moment", EIO};
  if (!sys::log().sink().stands()) // exec would wait for the thread that writes, and nobody would answer meanwhile
    failure = execute(program, arguments.data());
  ::unsetenv(kStateVariable);
  for (const StateEntry &each : entries)
    protect(each.fd);
  return failure;
}

Inheritance take_inheritance() {
  Inheritance inheritance;
  const char *variable = std::getenv(kStateVariable);
  if (variable != nullptr) {
    inheritance.reloaded = true;
    const sys::Fd fd(std::atoi(variable));
    ::unsetenv(kStateVariable);
    const auto state = sys::read_fd(fd.get());
    for (StateEntry &each : parse_state(state.ok() ? state.value() : ""))
      inherit(each, inheritance);
  }
  for (sys::Fd &fd : sys::sd_sockets()) {
    std::string address = sys::bound_address(fd.get());
    inheritance.sockets.push_back({std::move(address), std::move(fd), true});
  }
  return inheritance;
}

} // namespace tqfpm::master
