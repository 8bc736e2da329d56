// XenStore over the page that a domain shares with us.
//
// Requests are given back to the ring when their replies are in it, and halves of messages are kept by a
// RingLog: so a store that is killed leaves no request unanswered, and its successor goes on in the middle of
// a word. A guest that breaks its ring is told in the ring's error word and not listened to any more, until
// it asks for a reconnection.
//
// When a guest rings: Linux' drivers/xen/xenbus/xenbus_comms.c, which rings least of all front ends.
//
// Threads: one. Ownership: a stream owns its port, which owns page and event channel.
#pragma once

#include <memory>
#include <optional>
#include <string>

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

/// What of a ring's two byte streams lies between messages: half a request that was taken, half a message
/// that was put in. It counts as long as the ring's indices are these.
struct RingRemnant {
  uint32_t taken_index = 0;
  std::string request;
  uint32_t put_index = 0;
  std::string message;  ///< whole
  uint32_t put = 0;     ///< bytes of it that are in the ring

  bool empty() const { return request.empty() && message.empty(); }
};

/// Keeps remnants for a successor.
class RingLog {
 public:
  virtual ~RingLog() = default;
  virtual void remnant_left(ConnectionId connection, const RingRemnant& remnant) = 0;
  virtual std::optional<RingRemnant> remnant_of(DomId domid) = 0;
};

class RingStream final : public Stream {
 public:
  /// Without a log, what lies between messages is lost with this process.
  RingStream(Switchboard& board, ConnectionId id, std::unique_ptr<RingPort> port, RingLog* log = nullptr);

  /// The guest's bell rang, or ours must be.
  void on_event();
  /// Gives the port back; until begin_anew() with another one the stream is deaf and dumb.
  void unplug();
  /// Both queues emptied, what was half read or written forgotten; on this port, if one is given.
  void begin_anew(std::unique_ptr<RingPort> port);
  RingRemnant remnant() const;
  /// Goes on where a predecessor's remnant ends.
  void take_up(const RingRemnant& remnant);
  /// Features are there to be seen, and the guest is told.
  void advertise();

 private:
  Taken read(std::span<char> into) override;
  size_t write(std::span<const char> messages, size_t already) override;
  void turn_ended(bool drained) override;
  void broken(Broken why) override;

  std::unique_ptr<RingPort> port_;
  RingLog* const log_;
  DomainRing ring_;
  bool failed_ = false;        ///< not listened to
  bool forget_later_ = false;  ///< the engine is to forget what the connection had
  bool tell_ = false;          ///< the guest is to be told at the turn's end
};

}  // namespace synfluid::spawner::store
