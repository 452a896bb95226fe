#include "workers/launcher.h"

#include <fmt/format.h>

#include <cstring>

#include "sys/child_exec.h"

namespace tqfpm::workers {

std::string spawn_failure(const ipc::SpawnerReply &reply, const std::string &program) {
  return fmt::format("{} {}: {}", sys::stage_text(static_cast<sys::ExecStage>(reply.stage)), program,
                     strerror(reply.errno_));
}

} // namespace tqfpm::workers
