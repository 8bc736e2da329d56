// One worker's side of the spawner: four bounded rings and a descriptor to sleep on.
//
// Threads: the worker's. Nothing here waits, and nothing allocates but a failed reply's text.
// Before the worker sleeps in epoll with wake_fd(): before_sleep(), then look at next_reply() and next_lost()
// once more, then wait. While it polls it need not touch the descriptor: a signal costs one write until the
// next before_sleep(). Ownership: request() and give_back() take what they are given only when they return
// true.
#pragma once

#include <optional>

#include "spawner/spawner.h"
#include "spawner/spsc_ring.h"
#include "spawner/wake_event.h"

namespace synfluid::spawner {

class WorkerPort {
 public:
  struct Sizes {
    uint32_t requests;
    uint32_t returns;
  };

  WorkerPort(Sizes sizes, std::unique_ptr<WakeEvent> wake, WakeEvent& spawner_wake)
      : requests_(sizes.requests),
        replies_(sizes.requests),
        lost_(sizes.requests),
        returns_(sizes.returns),
        wake_(std::move(wake)),
        spawner_wake_(spawner_wake) {}

  // The worker's.

  /// False: the ring is full, and the flow follows on_failure.
  bool request(SpawnRequest&& request) { return tell(requests_, std::move(request)); }
  /// False: the ring is full; keep the vif and try again later.
  bool give_back(VmReturn&& vm) { return tell(returns_, std::move(vm)); }

  std::optional<SpawnReply> next_reply() { return replies_.pop(); }
  std::optional<VmLost> next_lost() { return lost_.pop(); }

  int wake_fd() const noexcept { return wake_->fd(); }
  void before_sleep() noexcept { wake_->acknowledge(); }

  // The spawner's.

  std::optional<SpawnRequest> next_request() { return requests_.pop(); }
  bool has_request() { return !requests_.empty(); }
  std::optional<VmReturn> next_return() { return returns_.pop(); }
  uint32_t free_replies() { return replies_.free_slots(); }

  /// Precondition: free_replies() was not 0.
  void reply(SpawnReply&& reply) {
    replies_.push(std::move(reply));
    wake_->signal();
  }
  bool lost(VmLost&& lost) {
    if (!lost_.push(std::move(lost))) return false;
    wake_->signal();
    return true;
  }

 private:
  template <class T>
  bool tell(SpscRing<T>& ring, T&& item) {
    if (!ring.push(std::move(item))) return false;
    spawner_wake_.signal();
    return true;
  }

  SpscRing<SpawnRequest> requests_;
  SpscRing<SpawnReply> replies_;
  SpscRing<VmLost> lost_;
  SpscRing<VmReturn> returns_;
  const std::unique_ptr<WakeEvent> wake_;
  WakeEvent& spawner_wake_;
};

}  // namespace synfluid::spawner
