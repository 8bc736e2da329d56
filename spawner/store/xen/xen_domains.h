// Domains on Xen: their rings, by the grant that every builder leaves for the store (or by the frame that
// INTRODUCE names, where there is none), their event channels, and their deaths.
//
// Deaths: Xen says that something has died, not what. The domains that were introduced are then looked
// through, in batches; looking again waits so long that it takes a fifth of the time at most.
//
// Threads: one. Ownership: rings belong to the switchboard's streams, which go before this object. Errors: of
// a domain that cannot be introduced, a Fault for the one who asked; others are logged.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>

#include "backend/xen/grant_mapper.h"
#include "spawner/log_limiter.h"
#include "spawner/store/engine.h"
#include "spawner/store/ring_transport.h"
#include "spawner/store/xen/event_channels.h"
#include "spawner/toolstack/xen_calls.h"

struct xenforeignmemory_handle;

namespace synfluid::spawner::store::xen {

class XenDomains final : public Domains {
 public:
  static Result<std::unique_ptr<XenDomains>> open(EventLoop& loop, Switchboard& board, const Clock& clock);
  ~XenDomains() override;

  Fault introduce(DomId domid, uint64_t gfn, EventPort port, ConnectionId connection) override;
  Fault reintroduce(DomId domid, uint64_t gfn, EventPort port, ConnectionId connection) override;
  void release(DomId domid, ConnectionId connection) override;

  /// Where rings' remnants are kept; before any domain is there.
  void set_log(RingLog& log) { ring_log_ = &log; }
  /// Gives every ring's remnant to another log.
  void write_remnants(RingLog& log) const;

  /// Connects this machine's own kernel, whose ring Linux offers. An engine that remembers domain 0 has a
  /// connection for it.
  Status connect_own_kernel(std::optional<ConnectionId> connection,
                            const std::optional<RingRemnant>& remnant);
  /// A domain that the engine remembers from before: its ring goes on where it stands, in the remnant's
  /// middle.
  Status resume(const DomainState& domain, const std::optional<RingRemnant>& remnant);

  /// From the event loop: what is due. Milliseconds until something will be; -1: nothing is.
  int on_turn();

 private:
  XenDomains(Switchboard& board, const Clock& clock) : board_(board), clock_(clock) {}

  Result<std::unique_ptr<RingPort>> connect(DomId domid, uint64_t gfn, EventPort port);
  Result<std::unique_ptr<RingPort>> connect_granted(DomId domid, EventPort port);
  Result<std::unique_ptr<RingPort>> connect_foreign(DomId domid, uint64_t gfn, EventPort port);
  EventChannels::Handler handler_for(DomId domid);
  RingStream& add_stream(DomId domid, ConnectionId connection, std::unique_ptr<RingPort> port);
  Fault failed(const Error& error);
  void look_for_the_dead();
  void look_through(const std::vector<DomId>& known);

  Switchboard& board_;
  const Clock& clock_;
  std::unique_ptr<toolstack::XenCalls> calls_;
  xenforeignmemory_handle* foreign_ = nullptr;
  backend::xen::GrantMapper grants_;
  std::unique_ptr<EventChannels> channels_;
  std::optional<Channel> exception_;
  std::map<DomId, RingStream*> rings_;
  RingLog* ring_log_ = nullptr;
  bool look_ = false;
  int64_t next_look_ns_ = 0;
  LogLimiter log_;
};

}  // namespace synfluid::spawner::store::xen
