// What happens in one turn of the loop, in its order: what workers have done, scripts that have been looked for, what
// clients have sent, the queue; again, until nothing is left; then everybody brings his watches in line.
#pragma once

#include "dispatcher/requests.h"
#include "web/front.h"
#include "workers/workers.h"

namespace tqfpm::dispatcher {

class Round {
public:
  Round(web::Front &front, workers::Workers &workers, Requests &requests)
      : front_(front), workers_(workers), requests_(requests) {}

  // Works until something happens that concerns the pool and no request; act on it and call again. False: there is
  // nothing more to do, or it is enough for one turn.
  bool next(workers::Event &event, TimePoint now);
  // The end of the round. What is left over wakes the loop at once.
  void settle(TimePoint now);
  // In a drain, after settle(): lets go what is not needed any more. True: all is done.
  bool finish();

private:
  [[nodiscard]] bool concerns_request(const workers::Event &event) const;

  web::Front &front_;
  workers::Workers &workers_;
  Requests &requests_;
  int passes_ = 0;   // of this round
  bool any_ = false; // was there anything to do in this pass?
};

} // namespace tqfpm::dispatcher
