// XenStore over the page that a domain shares with us.
//
// Requests are given back to the ring when their replies are in it, so a store that is killed between two
// turns leaves no request unanswered. A message that was half in the ring at that moment is lost to the
// guest. A guest that breaks its ring is told in the ring's error word and not listened to any more, until it
// asks for a reconnection.
//
// When a guest rings: Linux' drivers/xen/xenbus/xenbus_comms.c, which rings least of all front ends.
//
// Threads: one. Ownership: a stream owns its port, which owns page and event channel.
#pragma once

#include <memory>
#include <optional>

#include "spawner/store/domain_ring.h"
#include "spawner/store/stream.h"
#include "spawner/store/switchboard.h"

namespace synfluid::spawner::store {

/// One end of a domain's ring: the page, mapped, and the bell.
class RingPort {
 public:
  virtual ~RingPort() = default;
  virtual RingPage& page() = 0;
  virtual void notify() = 0;
};

class RingStream final : public Stream {
 public:
  RingStream(Switchboard& board, ConnectionId id, std::unique_ptr<RingPort> port);

  /// The guest's bell rang, or ours must be.
  void on_event();
  /// Gives the port back; until begin_anew() with another one the stream is deaf and dumb.
  void unplug();
  /// Both queues emptied, what was half read or written forgotten; on this port, if one is given.
  void begin_anew(std::unique_ptr<RingPort> port);
  /// Features are there to be seen, and the guest is told.
  void advertise();

 private:
  Taken read(std::span<char> into) override;
  size_t write(std::span<const char> messages, size_t already) override;
  void turn_ended(bool drained) override;
  void broken(Broken why) override;

  std::unique_ptr<RingPort> port_;
  DomainRing ring_;
  bool failed_ = false;        ///< not listened to
  bool forget_later_ = false;  ///< the engine is to forget what the connection had
  bool tell_ = false;          ///< the guest is to be told at the turn's end
};

}  // namespace synfluid::spawner::store
