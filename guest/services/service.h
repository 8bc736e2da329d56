// What a service is to the guest's main loop. One of three, named on the card.
//
// One thread. Every received frame given to on_frame() becomes the service's: it recycles or forwards it.
#pragma once

#include <cstdint>

#include "base/abi/card.h"
#include "guest/net/arena.h"
#include "guest/net/netfront.h"
#include "guest/services/console.h"

namespace synfluid::guest {

struct ServiceCounters {
  uint64_t dropped = 0;  ///< frames: malformed, refused, no room
  uint64_t flows_blocked = 0;
};

class Service {
 public:
  virtual void on_frame(const net::RxFrame& frame, uint64_t now_ns) = 0;
  /// There are transmit pages again; only called while wants_buffers().
  virtual void on_buffers(uint64_t now_ns) = 0;
  virtual bool wants_buffers() const = 0;
  virtual void run_timers(uint64_t now_ns) = 0;
  virtual uint64_t next_deadline_ns() const = 0;
  virtual ServiceCounters counters() const = 0;

 protected:
  ~Service() = default;
};

/// What the guest gives its service.
struct ServiceParts {
  const abi::Card& card;
  net::Netfront& netfront;
  net::Arena& arena;
  Console console;
};

/// Each takes the whole arena for its tables; nullptr if it is too small.
Service* make_responder(const ServiceParts& parts);
Service* make_passthrough(const ServiceParts& parts);
Service* make_firewall(const ServiceParts& parts);

}  // namespace synfluid::guest
