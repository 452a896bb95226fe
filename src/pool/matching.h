// Which waiting request gets which worker, where workers have different PHP settings (variants). Oldest first: a
// request takes an idle worker of its variant, or one that is coming up, or the room for another one; where there is no
// room, an idle worker of another variant has to go for it. So no variant starves behind another one's load.
#pragma once

#include <cstddef>
#include <list>
#include <vector>

#include "pool/request_queue.h"

namespace tqfpm::pool {

// Workers that a variant has or will have.
struct VariantSupply {
  std::size_t idle = 0;
  std::size_t coming = 0; // starting; SIZE_MAX while its template comes up: then it is decided anew
};

struct Match {
  std::vector<RequestKey> assign;   // each to the newest idle worker of its variant, in this order
  std::vector<VariantNumber> start; // a worker for each, most urgent first; as far as the process manager lets
  std::vector<VariantNumber> evict; // of each an idle worker, the least recently used one
};

// Looks no further than there is something to give. `room`: workers that may be started before pm.max_children is
// reached; `stopping`: workers that end, whose room is awaited.
Match match(const std::list<RequestQueue::Entry> &queue, std::vector<VariantSupply> supply, std::size_t stopping,
            std::size_t room);

} // namespace tqfpm::pool
