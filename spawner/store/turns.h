// A transaction that must not be overtaken: who lost several commits in a row gets its turn.
//
// Optimism lets one party lose for ever against others that are quicker. So after kLosses lost commits a
// connection's next transaction holds the turn: until it ends, what others would change of the nodes that it
// has seen waits (plain requests) or is refused with EAGAIN (commits). So it cannot lose. A turn binds only
// those of no more privilege than its holder: a guest can delay guests, never the control domain; and it ends
// by itself after kRequests requests of anybody, or kTicks ticks.
//
// Threads: one.
#pragma once

#include <cstdint>
#include <optional>

#include "spawner/store/engine.h"

namespace synfluid::spawner::store {

class Turns {
 public:
  static constexpr uint32_t kLosses = 3;
  /// Far more than any transaction needs, even among hundreds of clients that all retry.
  static constexpr uint32_t kRequests = 16384;
  static constexpr uint32_t kTicks = 10;

  struct Holder {
    ConnectionId connection;
    uint32_t transaction = 0;
    Privilege privilege = Privilege::kGuest;
  };

  bool taken() const { return holder_.has_value(); }
  const Holder& holder() const { return *holder_; }

  /// The control domain takes it from a guest. False: somebody has it.
  bool take(const Holder& holder) {
    if (holder_ && (holder_->privilege == Privilege::kControl || holder.privilege == Privilege::kGuest))
      return false;
    holder_ = holder;
    requests_ = kRequests;
    ticks_ = kTicks;
    return true;
  }
  void end() { holder_.reset(); }

  bool is_held_by(ConnectionId connection, uint32_t transaction) const {
    return holder_ && holder_->connection == connection && holder_->transaction == transaction;
  }
  /// Whether the connection has to give way to the holder.
  bool binds(ConnectionId connection, Privilege privilege) const {
    return holder_ && holder_->connection != connection &&
           (holder_->privilege == Privilege::kControl || privilege == Privilege::kGuest);
  }

  void count_request() {
    if (holder_ && --requests_ == 0) end();
  }
  void count_tick() {
    if (holder_ && --ticks_ == 0) end();
  }

 private:
  std::optional<Holder> holder_;
  uint32_t requests_ = 0;
  uint32_t ticks_ = 0;
};

}  // namespace synfluid::spawner::store
