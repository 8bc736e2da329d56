// What engine.h hides. One request is handled by one of the handlers, which are grouped by file:
// engine_nodes.cc, engine_watches.cc, engine_transactions.cc, engine_domains.cc, engine_control.cc; engine.cc
// has what goes on around them.
//
// A handler either answers and returns Fault::kNone, or returns the fault that is to be the answer, having
// changed nothing.
#pragma once

#include <deque>
#include <map>
#include <unordered_map>

#include "spawner/log_limiter.h"
#include "spawner/store/engine.h"
#include "spawner/store/transaction.h"
#include "spawner/store/turns.h"
#include "spawner/store/watch_table.h"

namespace synfluid::spawner::store {

inline constexpr DomId kControlDomain{0};
/// From here on ids have special meanings in Xen.
inline constexpr uint16_t kFirstReservedDomid = 0x7ff0;
inline constexpr DomId kSelfDomid{0x7ff0};
inline constexpr std::string_view kIntroduceEvent = "@introduceDomain";
inline constexpr std::string_view kReleaseEvent = "@releaseDomain";

/// What one domain takes of the store beside its nodes. Kept while it is introduced or has a connection.
struct Account {
  uint32_t connections = 0;
  uint32_t watches = 0;
  uint32_t transactions = 0;
  /// Of watches, transactions and messages.
  uint64_t bytes = 0;
  LogLimiter log;
};

struct Domain {
  DomainState state;
  /// Those whose target it is.
  std::vector<DomId> targeted_by;
};

struct KeptRequest {
  Header header;
  std::string payload;
};

struct OpenTransaction {
  explicit OpenTransaction(const Storage& storage) : view(storage) {}
  Transaction view;
  /// Already charged to the account.
  size_t charged_bytes = 0;
};

struct Connection {
  ConnectionId id;
  Peer peer;
  /// "/local/domain/N/": what its relative paths begin with.
  std::string base;
  /// Null for those without quota.
  Account* account = nullptr;
  /// A domain's own ring, by which its domain is known.
  bool is_ring = false;
  /// It was connected to a predecessor: transactions unknown here were begun there.
  bool restored = false;
  WatchId first_watch = kNoWatch;
  std::map<uint32_t, OpenTransaction> transactions;
  uint32_t next_transaction = 1;
  /// Commits lost one after another.
  uint32_t losses = 0;
  std::vector<KeptRequest> kept;
  /// Sent, and not taken yet; counted for those with an account.
  uint32_t messages = 0;
  uint64_t message_bytes = 0;

  bool is_control() const { return peer.privilege == Privilege::kControl; }
};

class Engine::Impl {
 public:
  Impl(EngineConfig config, Storage& storage, Outbox& outbox, Domains& domains, StateLog& log);

  // engine.cc
  ConnectionId connect(Peer peer, bool is_ring);
  void disconnect(ConnectionId id);
  void reset(ConnectionId id) { clear(at(id)); }
  /// After whatever may have ended a turn.
  void settle();
  void handle(ConnectionId id, const Header& header, std::span<const char> payload);
  bool wants_input(ConnectionId id) const;
  void delivered(ConnectionId id, uint32_t messages, uint64_t bytes);
  bool wants_tick() const { return turns_.taken() && !waiting_.empty(); }
  void tick();
  EngineState snapshot() const;
  void restore(const EngineState& state);

  // engine_domains.cc
  void domain_died(DomId domid);
  void domain_shut_down(DomId domid);
  ConnectionId adopt_domain(DomId domid, EventPort port, Privilege privilege);
  bool is_introduced(DomId domid) const { return domains_.contains(domid); }
  std::vector<DomainState> domain_states() const;

  EngineCounters counters;

 private:
  struct Request {
    Connection& from;
    const Header& header;
    std::span<const char> payload;
    /// Null outside of one.
    OpenTransaction* transaction = nullptr;
  };
  /// Who may hear of a change of a node; `before` are permissions that it had until then. What a guest may is
  /// found out once for all its watches, so that hundreds of them, of things it must not see, cost others
  /// next to nothing. Holds until the next change of the storage.
  class Audience {
   public:
    Audience(const Impl& engine, std::string_view path, std::span<const Permission> before = {})
        : engine_(engine), path_(path), before_(before) {}
    bool includes(const Connection& connection);

   private:
    bool may_hear(const Connection& connection);
    void look();

    const Impl& engine_;
    const std::string_view path_;
    const std::span<const Permission> before_;
    bool looked_ = false;
    std::span<const Permission> now_;
    std::span<const Permission> above_;
    const Connection* last_ = nullptr;
    bool last_included_ = false;
  };
  enum class Paths : uint8_t { kOrdinary, kSpecialToo };
  enum class Need : uint8_t { kRead = 1, kWrite = 2 };

  // engine.cc: around the handlers
  Connection& at(ConnectionId id) { return *connections_[id.value()]; }
  const Connection& at(ConnectionId id) const { return *connections_[id.value()]; }
  void make_standard_nodes();
  void process(Connection& from, const Header& header, std::span<const char> payload);
  Fault dispatch(Request& request);
  void send_fault(Connection& to, const Header& about, Fault fault);
  Fault find_transaction(Connection& from, const Header& header, OpenTransaction*& found);
  bool must_wait(const Connection& from, const Header& header, std::span<const char> payload);
  void keep(Connection& from, const Header& header, std::span<const char> payload);
  void run_kept(ConnectionId id);
  void clear(Connection& connection);
  void took(Connection& connection, uint32_t messages, uint64_t bytes);
  void drop_watches(Connection& connection);
  void drop_transactions(Connection& connection);
  void reply(const Request& request, std::string_view payload);
  void acknowledge(const Request& request) { reply(request, std::string_view("OK", 3)); }
  /// The header's length is filled in.
  void send(Connection& to, Header header, std::string_view payload);
  Connection& place_connection(ConnectionId id, Peer peer, bool is_ring);
  void open_account(Connection& connection);
  void close_account(Connection& connection);

  // engine_quota.cc: who may how much
  bool exceeds(const Connection& connection, Quota quota, uint64_t value) const;
  uint64_t memory_of(const Connection& connection) const;
  Fault check_memory(Connection& connection, uint64_t more);
  /// The fault, after a line in the log.
  Fault refuse(Connection& connection, Fault fault, std::string_view why);
  void charge_transaction(Connection& connection, OpenTransaction& transaction);

  Fault check_transaction_room(const Request& request);

  // engine_access.cc: paths, permissions, nodes through a transaction or straight
  std::optional<std::string_view> path_of(const Connection& from, std::string_view text, Paths paths);
  /// Of a request that has a path and nothing else.
  std::optional<std::string_view> only_path(const Request& request, Paths paths);
  bool is_self_or_target(const Connection& connection, DomId domid) const;
  bool owns(const Connection& connection, std::span<const Permission> permissions) const;
  Access access_of(const Connection& connection, std::span<const Permission> permissions) const;
  std::optional<NodeView> look(const Request& request, std::string_view path, Part seen);
  /// The node, if it is there and `need` is allowed; or the fault to answer, which tells nothing to those who
  /// may not know.
  struct Found {
    Fault fault = Fault::kNone;
    std::optional<NodeView> node;
  };
  Found find_allowed(const Request& request, std::string_view path, Need need, Part seen);
  /// The nearest node above this one, which is not there, that is.
  std::string_view nearest_above(const Request& request, std::string_view path);
  /// Straight into the storage.
  Fault apply(std::span<const Change> changes);

  // engine_nodes.cc
  Fault read(const Request& request);
  Fault directory(const Request& request);
  Fault directory_part(const Request& request);
  Fault write(const Request& request);
  Fault mkdir(const Request& request);
  Fault rm(const Request& request);
  Fault get_perms(const Request& request);
  Fault set_perms(const Request& request);
  bool append_part(std::string_view names, size_t offset, size_t room);
  Fault set_value(const Request& request, std::string_view path, std::string_view value,
                  const NodeView& node);
  Fault create(const Request& request, std::string_view path, std::string_view value);
  // Those in missing_, the last first.
  Fault check_new_nodes(Connection& from, const OpenTransaction* transaction, std::string_view value,
                        const NodeView& parent);
  Fault create_missing(const Request& request, std::string_view value,
                       std::span<const Permission> permissions);
  Fault create_now(const Request& request, std::string_view value, std::span<const Permission> permissions);
  Fault create_later(const Request& request, std::string_view value, std::span<const Permission> permissions);

  // engine_watches.cc
  Fault watch(const Request& request);
  Fault unwatch(const Request& request);
  Fault reset_watches(const Request& request);
  /// As the client asked for it.
  Fault set_watch(Connection& connection, const WatchState& wanted, WatchId& id);
  void restore_watch(Connection& connection, const WatchState& wanted);
  void forget_watch(Connection& connection, WatchId id);
  void announce(const Watch& watch, std::string_view path);
  void fire(std::string_view path, std::span<const Permission> before = {});
  /// Before they are erased.
  void fire_erased(std::string_view path);
  void fire_special(std::string_view name, DomId domid);
  static WatchState state_of(const Watch& watch);

  // engine_transactions.cc
  Fault transaction_start(const Request& request);
  Fault transaction_end(const Request& request);
  Fault commit(Connection& from, OpenTransaction& transaction);
  Fault lost(Connection& from);
  Fault open_transaction(Connection& from, uint32_t id);
  /// Whether the holder of the turn has seen what this would change.
  bool disturbs_turn(std::string_view path, MessageType type) const;
  bool disturbs_turn(std::span<const Change> changes) const;
  const Transaction& holders_transaction() const;

  // engine_domains.cc
  Fault introduce(const Request& request);
  Fault release(const Request& request);
  Fault get_domain_path(const Request& request);
  Fault is_domain_introduced(const Request& request);
  Fault resume(const Request& request);
  Fault set_target(const Request& request);
  Fault introduce_new(DomId domid, uint64_t gfn, EventPort port);
  Fault introduce_again(Domain& domain, uint64_t gfn, EventPort port);
  void remove_domain(DomId domid);
  void remove_targets(const Domain& domain);
  void remove_nodes_of(DomId domid);
  void forget_domain_at(const std::string& path, DomId domid);
  Domain* named_domain(const Request& request, Fault& fault);

  // engine_control.cc
  Fault control(const Request& request);
  Fault control_log(const Request& request, Fields parameters);
  Fault control_quota(const Request& request, Fields parameters);
  Fault control_memreport(const Request& request, Fields parameters);
  Fault control_check(const Request& request, Fields parameters);
  Fault control_help(const Request& request, Fields parameters);
  Fault set_quota(const Request& request, Fields parameters);
  void append_quotas();
  void append_usage(DomId domid);
  std::optional<std::string> find_damage() const;

  EngineConfig config_;
  Storage& storage_;
  Outbox& outbox_;
  Domains& calls_;
  StateLog& state_log_;

  std::vector<std::unique_ptr<Connection>> connections_;
  std::vector<uint32_t> free_connections_;
  std::unordered_map<DomId, Domain> domains_;
  std::unordered_map<DomId, Account> accounts_;
  WatchTable watches_;
  Turns turns_;
  /// Connections with kept requests, first come first.
  std::deque<ConnectionId> waiting_;
  bool log_requests_ = false;
  bool running_kept_ = false;

  /// For one request: a relative path made whole, an answer or event put together.
  std::string path_buffer_;
  std::vector<std::string_view> missing_;
  std::vector<Change> changes_;
  std::string text_buffer_;
  std::string event_buffer_;
};

}  // namespace synfluid::spawner::store
