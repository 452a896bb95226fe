#include "workers/worker_log.h"

#include <fcntl.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "base/text.h"
#include "sys/log.h"
#include "sys/socket.h"

namespace tqfpm::workers {

Result<WorkerLog::Ends> WorkerLog::make(Worker &worker) {
  if (!pool_.catch_workers_output) {
    Ends ends{sys::Fd(::open("/dev/null", O_WRONLY | O_CLOEXEC)), sys::Fd(::open("/dev/null", O_WRONLY | O_CLOEXEC))};
    if (!ends.out.valid() || !ends.err.valid())
      return Error{std::string("cannot open /dev/null: ") + strerror(errno), errno};
    return ends;
  }
  auto out = sys::output_pipe();
  auto err = sys::output_pipe();
  if (!out.ok() || !err.ok())
    return out.ok() ? err.error() : out.error();
  const auto note = [this, id = worker.id] {
    if (Worker *noted = roster_.find(id)) {
      noted->outputs.noted = true;
      roster_.note(id);
    }
  };
  worker.outputs.out = std::make_unique<Output>(loop_, std::move(out.value().ours), global_.log_buffering, note);
  worker.outputs.err = std::make_unique<Output>(loop_, std::move(err.value().ours), global_.log_buffering, note);
  return Ends{std::move(out.value().theirs), std::move(err.value().theirs)};
}

void WorkerLog::line(Worker &worker, const char *stream, const std::string &text, TimePoint now) const {
  if (!worker.outputs.limit.admits(text.size(), now))
    return;
  const int pid = std::max(worker.pid, 0);
  if (pool_.decorate_workers_output)
    sys::log().said(pool_.name, pid, stream, text);
  else
    sys::log().plain(pool_.name, pid, stream, text);
}

void WorkerLog::take(Worker &worker, bool flush, TimePoint now) {
  const struct {
    Output *output;
    const char *stream;
  } both[] = {{worker.outputs.out.get(), "stdout"}, {worker.outputs.err.get(), "stderr"}};
  worker.outputs.noted = false;
  for (const auto &each : both) {
    const std::size_t room = sys::log().room(static_cast<std::size_t>(global_.log_limit), pool_.decorate_workers_output,
                                             pool_.name, std::max(worker.pid, 0), each.stream);
    const auto on_line = [&](const std::string &text) { line(worker, each.stream, text, now); };
    each.output->drain(room, on_line, flush);
    if (flush)
      each.output->flush(room, on_line);
  }
  tell_suppressed(worker, now, false);
}

void WorkerLog::drain(Worker &worker, TimePoint now) {
  if (worker.outputs.noted && worker.outputs.out != nullptr)
    take(worker, false, now);
}

void WorkerLog::finish(Worker &worker, TimePoint now, bool at_end) {
  if (worker.outputs.out != nullptr)
    take(worker, true, now);
  if (at_end)
    tell_suppressed(worker, now, true);
}

void WorkerLog::muttered(Worker &worker, std::string_view text, TimePoint now) {
  if (!pool_.catch_workers_output)
    return;
  for (const std::string &each : split(text, "\n")) {
    if (worker.outputs.limit.admits(each.size(), now))
      sys::log().said(pool_.name, worker.pid, "stderr", each);
  }
}

void WorkerLog::tell_suppressed(Worker &worker, TimePoint now, bool at_end) {
  if (const std::uint64_t lines = worker.outputs.limit.take_suppressed(now, at_end); lines > 0)
    sys::log().warning("[pool {}] child {}: {} lines of its output were suppressed", pool_.name,
                       std::max(worker.pid, 0), lines);
  if (worker.outputs.limit.owes())
    roster_.look_at(now + seconds(1));
}

} // namespace tqfpm::workers
