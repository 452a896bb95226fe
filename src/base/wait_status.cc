#include "base/wait_status.h"

#include <fmt/format.h>
#include <sys/wait.h>

#include <csignal>
#include <cstring>

namespace tqfpm {

std::string end_text(int wait_status) {
  if (!WIFSIGNALED(wait_status))
    return fmt::format("exited with code {}", WEXITSTATUS(wait_status));
  const int number = WTERMSIG(wait_status);
  const char *name = ::sigabbrev_np(number);
  return fmt::format("exited on signal {} (SIG{}{})", number, name != nullptr ? name : "?",
                     WCOREDUMP(wait_status) ? " - core dumped" : "");
}

bool ended_well(int wait_status) {
  return WIFEXITED(wait_status) && WEXITSTATUS(wait_status) == 0;
}

} // namespace tqfpm
