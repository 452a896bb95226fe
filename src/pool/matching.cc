#include "pool/matching.h"

#include <algorithm>

namespace tqfpm::pool {

namespace {

// The variant with the most idle workers left, but not `but`; npos: none has any.
std::size_t richest(const std::vector<VariantSupply> &supply, VariantNumber but) {
  std::size_t best = supply.size();
  for (std::size_t i = 0; i < supply.size(); ++i) {
    if (i != but && supply[i].idle > (best == supply.size() ? 0 : supply[best].idle))
      best = i;
  }
  return best;
}

} // namespace

Match match(const std::list<RequestQueue::Entry> &queue, std::vector<VariantSupply> supply, std::size_t stopping,
            std::size_t room) {
  Match result;
  std::size_t idle = 0;
  for (const VariantSupply &each : supply)
    idle += each.idle;
  for (const RequestQueue::Entry &entry : queue) {
    if (idle + room + stopping == 0)
      break;
    if (entry.variant >= supply.size())
      supply.resize(entry.variant + 1);
    VariantSupply &own = supply[entry.variant];
    if (own.idle > 0) {
      --own.idle;
      --idle;
      result.assign.push_back(entry.key);
    } else if (own.coming > 0) {
      own.coming -= own.coming == SIZE_MAX ? 0 : 1;
    } else if (room > 0) {
      --room;
      result.start.push_back(entry.variant);
    } else if (stopping > 0) {
      --stopping;
    } else if (const std::size_t victim = richest(supply, entry.variant); victim < supply.size()) {
      --supply[victim].idle;
      --idle;
      result.evict.push_back(static_cast<VariantNumber>(victim));
    }
  }
  return result;
}

} // namespace tqfpm::pool
