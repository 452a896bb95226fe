#include "dispatcher/pool_status.h"

#include <algorithm>

#include "sys/paths.h"

namespace tqfpm::dispatcher {

using status::Metric;

namespace {

LocalAnswer ping_page(const config::PoolConfig &pool) {
  LocalAnswer answer;
  answer.head = std::string("Content-type: text/plain;charset=UTF-8\r\n") + kNoCache;
  answer.body = pool.ping_response;
  return answer;
}

LocalAnswer status_page(const status::PoolState &state, std::string_view query) {
  const status::Page page = status::render_status(state, query);
  LocalAnswer answer;
  answer.head = kNoCache + page.content_type + "\r\n";
  answer.body = page.body;
  return answer;
}

} // namespace

std::string_view request_path(const pool::Request &request) {
  std::string_view path = request.params.get("SCRIPT_NAME");
  if (path.empty()) {
    path = request.params.get("REQUEST_URI");
    path = path.substr(0, path.find('?'));
  }
  return path;
}

PoolStatus::PoolStatus(const config::PoolConfig &pool, const workers::Workers &workers, const pool::RequestQueue &queue,
                       status::Scoreboard &board)
    : pool_(pool), workers_(workers), queue_(queue), board_(board), started_(Clock::now()),
      start_time_(std::time(nullptr)) {}

Verdict PoolStatus::judge(const pool::Request &request, TimePoint now) const {
  if (pool_.ping_path.empty() && pool_.pm_status_path.empty() && !request.apart)
    return Verdict::run();
  const std::string_view path = request_path(request);
  if (!pool_.ping_path.empty() && path == pool_.ping_path)
    return Verdict::local(ping_page(pool_));
  if (!pool_.pm_status_path.empty() && path == pool_.pm_status_path) {
    const std::string_view query = request.params.get("QUERY_STRING");
    return Verdict::local(status_page(state(status::wants_workers(query), !request.apart, now), query));
  }
  return request.apart ? Verdict::local(error_page(AnswerName::kOnlyStatus, request.tag)) : Verdict::run();
}

status::PoolState PoolStatus::state(bool with_workers, bool counts_itself, TimePoint now) const {
  status::PoolState state;
  const pool::WorkerTable &table = workers_.table();
  state.pool = pool_.name;
  state.manager = config::name_of(pool_.pm);
  state.start_time = start_time_;
  state.start_since = static_cast<std::uint64_t>(std::chrono::duration_cast<seconds>(now - started_).count());
  state.accepted = board_.get(Metric::received);
  state.queue = queue_.length();
  state.max_queue = queue_.longest();
  state.queue_size = queue_.max_length();
  state.idle = table.count(pool::WorkerState::kIdle);
  state.active = table.occupied();
  const bool room = state.idle + state.active < static_cast<std::uint64_t>(pool_.pm_max_children);
  if (counts_itself && state.idle > 0) {
    --state.idle;
    ++state.active;
  } else if (counts_itself && room) { // or was started for it
    ++state.active;
  }
  state.total = state.idle + state.active; // ones that start or end are neither
  state.max_active = std::max(board_.get(Metric::max_busy_workers), state.active);
  state.max_children_reached = board_.get(Metric::max_children_reached);
  state.slow_requests = board_.get(Metric::slow_requests);
  state.version = sys::kVersion;
  for (std::size_t i = 0; i < state.metrics.size(); ++i)
    state.metrics[i] = board_.get(static_cast<Metric>(i));
  if (with_workers)
    state.workers = workers_.view();
  return state;
}

} // namespace tqfpm::dispatcher
