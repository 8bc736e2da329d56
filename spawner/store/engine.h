// The XenStore protocol: requests in, replies and watch events out. No input or output, no clock, no thread
// of its own.
//
// A connection is whoever may send requests: a socket's peer, or a domain through its ring. The transport
// gives each whole request to handle(); replies and events leave by the Outbox, often before handle()
// returns, sometimes later: a request may be kept until a transaction that must not be overtaken has ended.
// Then wants_input() is false and the transport reads no more from that connection until Outbox::resume().
//
// Threads: one. Ownership: the engine owns connections, watches, transactions and what it knows of domains;
// the Storage, Outbox, Domains and StateLog are the daemon's and outlive it. Units: bytes; ticks are the
// daemon's, about 10 ms. Errors: a client's are replies; a failing Storage is the reply EIO and a line in the
// log.
//
// Semantics: Xen's docs/misc/xenstore.txt; where that is silent, C xenstored 4.17. See
// docs/xenstore-conformance.md.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/clock.h"
#include "base/strong_id.h"
#include "spawner/store/quota.h"
#include "spawner/store/storage.h"
#include "spawner/store/wire.h"

namespace synfluid::spawner::store {

/// Numbers are used again after disconnect().
using ConnectionId = StrongId<struct ConnectionIdTag, uint32_t>;

/// kControl: the control domain's tools and kernel, who may do everything.
enum class Privilege : uint8_t { kGuest, kControl };

struct Peer {
  DomId domid;
  Privilege privilege = Privilege::kGuest;
};

/// Where messages to connections go. Calls come from within the engine's own: the outbox queues and returns,
/// and does not call the engine back.
class Outbox {
 public:
  virtual ~Outbox() = default;
  /// Copies the payload. `header.length` is its size.
  virtual void send(ConnectionId to, const Header& header, std::span<const char> payload) = 0;
  /// wants_input() of this connection has become true again.
  virtual void resume(ConnectionId connection) = 0;
};

/// What only the daemon can do for a domain.
class Domains {
 public:
  virtual ~Domains() = default;
  /// Maps the domain's ring and binds its event channel. The engine has made `connection` for it already and
  /// takes it back when this fails.
  virtual Fault introduce(DomId domid, uint64_t gfn, EventPort port, ConnectionId connection) = 0;
  /// The domain, introduced already, has a new event channel or a fresh ring: bind anew, drop what is half
  /// read or written, empty both queues. The engine has dropped its watches and transactions.
  virtual Fault reintroduce(DomId domid, uint64_t gfn, EventPort port, ConnectionId connection) = 0;
  /// Unmaps and unbinds; the engine has ended the connection, and sends it nothing more.
  virtual void release(DomId domid, ConnectionId connection) = 0;
};

struct WatchState {
  std::string path;  ///< as the client gave it, relative or not
  std::string token;
  std::optional<uint32_t> depth;
  friend bool operator==(const WatchState&, const WatchState&) = default;
};

struct DomainState {
  DomId domid;
  uint64_t gfn = 0;
  EventPort port;
  ConnectionId connection;
  std::optional<DomId> target;
  /// It has shut down, and @releaseDomain was said.
  bool shut_down = false;
  friend bool operator==(const DomainState&, const DomainState&) = default;
};

struct ConnectionState {
  ConnectionId id;
  Peer peer;
  std::vector<WatchState> watches;
};

/// All a successor needs beside the storage. Transactions are not in it: those of a restored connection end
/// with EAGAIN.
struct EngineState {
  std::vector<ConnectionState> connections;
  std::vector<DomainState> domains;
};

/// Told of each change to what EngineState holds, after it was made, so that a crash loses none. Every method
/// does nothing by default.
class StateLog {
 public:
  virtual ~StateLog() = default;
  virtual void domain_changed(const DomainState& /*domain*/) {}
  virtual void domain_gone(DomId /*domid*/) {}
  virtual void watch_added(ConnectionId /*connection*/, const WatchState& /*watch*/) {}
  virtual void watch_removed(ConnectionId /*connection*/, const WatchState& /*watch*/) {}
};

/// Quotas may be changed later, by CONTROL.
struct EngineConfig {
  Quotas quotas;
  /// For the limits on log lines alone.
  const Clock* clock = nullptr;
};

struct EngineCounters {
  uint64_t requests = 0;
  uint64_t errors = 0;
  uint64_t events = 0;
  /// Events that a client, reading none, was not kept any more.
  uint64_t events_dropped = 0;
  uint64_t commits = 0;
  uint64_t conflicts = 0;
  /// Requests kept waiting for a transaction that had lost too often.
  uint64_t deferred = 0;
};

class Engine {
 public:
  /// Makes the root and the nodes every store has, where the storage lacks them.
  Engine(EngineConfig config, Storage& storage, Outbox& outbox, Domains& domains);
  /// The same with a log of state changes.
  Engine(EngineConfig config, Storage& storage, Outbox& outbox, Domains& domains, StateLog& log);
  ~Engine();
  Engine(const Engine&) = delete;
  Engine& operator=(const Engine&) = delete;

  ConnectionId connect(Peer peer);
  /// Its watches and transactions end; nothing is sent to it any more. For a domain's own connection use
  /// domain_died(), or reset() when its ring is to begin anew.
  void disconnect(ConnectionId connection);
  /// Ring reconnection: watches, transactions and waiting requests go, the connection stays.
  void reset(ConnectionId connection);

  /// `header.length` is the payload's size, at most kMaxPayload. A request beyond what wants_input() allows
  /// is still kept while little is kept, and refused with ENOMEM then.
  void handle(ConnectionId connection, const Header& header, std::span<const char> payload);
  /// False: leave what comes from it where it is, until Outbox::resume().
  bool wants_input(ConnectionId connection) const;
  /// The peer has taken this many messages, with their headers this many bytes in all.
  void delivered(ConnectionId connection, uint32_t messages, uint64_t bytes);

  /// The domain exists no more: connection, nodes and grants go, @releaseDomain is said. For an unknown
  /// domain only its nodes.
  void domain_died(DomId domid);
  /// It has shut down but is still there: @releaseDomain, once until RESUME.
  void domain_shut_down(DomId domid);
  /// Domain 0's own ring, found at start-up: as by INTRODUCE, but the daemon has mapped it.
  ConnectionId adopt_domain(DomId domid, EventPort port, Privilege privilege);
  bool is_introduced(DomId domid) const;
  /// Of every domain introduced.
  std::vector<DomainState> domains() const;

  /// True while requests wait for a transaction: call tick() about every 10 ms.
  bool wants_tick() const;
  void tick();

  EngineState snapshot() const;
  /// Into a new engine on the same nodes. The daemon maps each domain's ring itself. Each watch fires once,
  /// as if just set: what changed meanwhile is not missed.
  void restore(const EngineState& state);

  const EngineCounters& counters() const;

 private:
  class Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace synfluid::spawner::store
