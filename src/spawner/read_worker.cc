#include "spawner/read_worker.h"

#include <sys/uio.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <string>

#include "base/clock.h"
#include "sys/files.h"
#include "sys/proc_info.h"
#include "trace/walk.h"

namespace tqfpm::spawner {

namespace {

class WorkerMemory : public trace::Memory {
public:
  WorkerMemory(pid_t pid, TimePoint end) : pid_(pid), end_(end) {}

  bool read(trace::Address address, void *buffer, std::size_t length) override {
    if (late_ || (++reads_ % 64 == 0 && Clock::now() > end_)) {
      late_ = true;
      return false;
    }
    const iovec here{buffer, length};
    const iovec there{reinterpret_cast<void *>(address), length}; // NOLINT(performance-no-int-to-ptr): not ours
    const ssize_t got = ::process_vm_readv(pid_, &here, 1, &there, 1, 0);
    if (got < 0)
      error_ = errno;
    return got == static_cast<ssize_t>(length);
  }

  [[nodiscard]] bool late() const { return late_; }
  [[nodiscard]] bool gone() const { return error_ == ESRCH; }
  [[nodiscard]] bool refused() const { return error_ == EPERM || error_ == EACCES; }

private:
  pid_t pid_;
  TimePoint end_;
  unsigned reads_ = 0;
  bool late_ = false;
  int error_ = 0; // of the last read that failed
};

void set_reason(ipc::TraceReply &reply, ipc::TraceResult result, const std::string &reason) {
  reply.result = result;
  const std::size_t length = std::min(reason.size(), sizeof reply.reason - 1);
  memcpy(reply.reason, reason.data(), length);
  reply.reason[length] = 0;
}

// What failed is not always what it looked like: the worker may have ended while it was read.
void explain(ipc::TraceReply &reply, const WorkerMemory &memory, ipc::TraceResult result, const std::string &reason) {
  if (memory.gone())
    set_reason(reply, ipc::TraceResult::kNone, "the worker has gone");
  else if (memory.late())
    set_reason(reply, ipc::TraceResult::kNone, "reading it takes too long");
  else
    set_reason(reply, result, reason);
}

void trace_calls(const ipc::SpawnerRequest &request, WorkerMemory &memory, ipc::TraceReply &reply) {
  const auto maps = sys::read_file("/proc/" + std::to_string(request.pid) + "/maps");
  if (!maps.ok()) {
    const bool refused = maps.error().code == EACCES || maps.error().code == EPERM;
    set_reason(reply, refused ? ipc::TraceResult::kNever : ipc::TraceResult::kNone,
               refused ? "it may not be read: " + maps.error().message : "the worker has gone");
    return;
  }
  const auto engine = trace::find_engine(memory, image_bases(maps.value()));
  if (!engine.ok()) {
    const bool unreadable = engine.error().code == trace::kUnreadable;
    if (unreadable && memory.refused())
      set_reason(reply, ipc::TraceResult::kNever, "it may not be read (kernel.yama.ptrace_scope, seccomp?)");
    else
      explain(reply, memory, unreadable ? ipc::TraceResult::kNone : ipc::TraceResult::kNever, engine.error().message);
    return;
  }
  trace::Trace found = trace::walk(memory, engine.value(), request.depth);
  const std::string text = trace::text_of(found, sizeof reply.text);
  memcpy(reply.text, text.data(), text.size());
  reply.length = static_cast<std::uint32_t>(text.size());
  if (found.trouble.empty())
    reply.result = ipc::TraceResult::kTrace;
  else
    explain(reply, memory, text.empty() ? ipc::TraceResult::kNone : ipc::TraceResult::kTrace, found.trouble);
}

} // namespace

std::uint32_t weigh_worker(std::int32_t pid) {
  const auto use = sys::memory_share(pid);
  return use ? use->proportional : 0;
}

void trace_worker(const ipc::SpawnerRequest &request, ipc::TraceReply &reply) {
  reply.kind = request.kind;
  reply.id = request.id;
  reply.result = ipc::TraceResult::kNone;
  reply.resident = 0;
  reply.proportional = 0;
  reply.length = 0;
  reply.reason[0] = 0;
  WorkerMemory memory(request.pid, Clock::now() + milliseconds(request.budget));
  trace_calls(request, memory, reply);
  if (const auto use = sys::memory_share(request.pid)) {
    reply.resident = use->resident;
    reply.proportional = use->proportional;
  }
}

} // namespace tqfpm::spawner
