// The guest's main loop: frames in, service, frames out, sleep.
#pragma once

#include "guest/platform/platform.h"
#include "guest/services/service.h"

namespace synfluid::guest {

class Guest {
 public:
  /// nullptr with a note on the card if the card or the memory will not do. Lives in the platform's memory.
  static Guest* make(Platform& platform);

  enum class Turn : uint8_t {
    kBusy,  ///< there may be more to do at once
    kIdle,  ///< nothing to do before the doorbell or next_deadline_ns()
  };
  /// Everything that can be done now, up to a batch of frames. After kIdle the ring rings at the next frame.
  Turn turn();
  uint64_t next_deadline_ns() const { return service_->next_deadline_ns(); }

  Guest(Platform& platform, uint32_t rx_target);

 private:
  bool more_comes() const;
  void publish_counters();

  Platform& platform_;
  abi::Card& card_;
  net::Netfront netfront_;
  Service* service_ = nullptr;
};

}  // namespace synfluid::guest
