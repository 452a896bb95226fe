// A pool's metrics in shared memory: written by its dispatchers, read by the master and the exporter. The rows are in
// counters.def. The memory holds nothing but numbers, is never seen by php-cgi, and a reader trusts none of them.
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>

namespace tqfpm::status {

enum class Metric : std::uint32_t {
#define METRIC(field, kind, name, help) field,
#include "status/counters.def"
#undef METRIC
  kCount
};
enum class MetricKind : std::uint8_t { kCounter, kGauge };

struct MetricInfo {
  const char *name;
  const char *help;
  MetricKind kind;
};
inline constexpr MetricInfo kMetrics[] = {
#define METRIC(field, kind, name, help) {name, help, MetricKind::kind},
#include "status/counters.def"
#undef METRIC
};

// Laid over a zeroed memory file.
class Scoreboard {
public:
  void add(Metric metric, std::uint64_t amount = 1) { cell(metric).fetch_add(amount, std::memory_order_relaxed); }
  void set(Metric metric, std::uint64_t value) { cell(metric).store(value, std::memory_order_relaxed); }
  void raise(Metric metric, std::uint64_t value) {
    if (get(metric) < value)
      set(metric, value);
  }
  [[nodiscard]] std::uint64_t get(Metric metric) const {
    return cells_[static_cast<std::size_t>(metric)].load(std::memory_order_relaxed);
  }

private:
  std::atomic<std::uint64_t> &cell(Metric metric) { return cells_[static_cast<std::size_t>(metric)]; }
  std::array<std::atomic<std::uint64_t>, static_cast<std::size_t>(Metric::kCount)> cells_;
};
static_assert(std::atomic<std::uint64_t>::is_always_lock_free);

} // namespace tqfpm::status
