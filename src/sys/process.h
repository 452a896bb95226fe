// Running a program for its output.
#pragma once

#include <sys/types.h>

#include <cstddef>
#include <optional>
#include <string>
#include <vector>

#include "base/clock.h"
#include "base/result.h"
#include "sys/child_exec.h"
#include "sys/fd.h"

namespace tqfpm::sys {

// Whoever started us may have left SIGCHLD ignored: then children end without a status to wait for.
void keep_ends_of_children();
// Waits for a child to end: its wait status; -1: it is no child of ours.
int wait_for(pid_t pid) noexcept;
// One of our children that has ended and has not been waited for. nullopt: there is none (errno ECHILD: no child at
// all).
struct EndedChild {
  pid_t pid;
  int status;
};
std::optional<EndedChild> next_ended_child() noexcept;

// What whoever started us has left open beyond the standard streams does not reach any child.
void protect_open_descriptors();

// A program that runs, and what it prints: the read end of a pipe, standard output and error.
struct RunningProgram {
  pid_t pid = -1;
  Fd output;
};
// Starts `path` with `arguments` (argv[0] first) and this process's environment less the variables `without`; as
// `user`, if there is one, with PATH and LD_LIBRARY_PATH alone.
Result<RunningProgram> start_program(const std::string &path, const std::vector<std::string> &arguments,
                                     const std::vector<std::string> &without = {},
                                     const std::optional<ExecUser> &user = {});

// Bytes that are kept of what a program prints; more is read, and dropped.
inline constexpr std::size_t kMostOutput = 256U << 10;

struct Output {
  int status = 0;   // of waitpid
  std::string text; // standard output and error
};
// The same, and waits for its end. Killed after `limit`; an error then.
Result<Output> run_program(const std::string &path, const std::vector<std::string> &arguments, Duration limit,
                           const std::vector<std::string> &without = {}, const std::optional<ExecUser> &user = {});

} // namespace tqfpm::sys
