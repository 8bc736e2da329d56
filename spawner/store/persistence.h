// Domains, their watches and the remnants of their rings in an LMDB file, as they change: what a store that
// was killed leaves to the next. And a handover: everything, written at an orderly end by a store that keeps
// its nodes in memory.
//
// Of connections, only domains' own are kept: a socket ends with the process that held it.
//
// Threads: one. Ownership: the file is shared with the storage and outlives the log. Errors: of loading, a
// Result; a change that cannot be written is logged, and lost if the store is killed.
#pragma once

#include <cstdint>
#include <map>
#include <string>

#include "spawner/store/engine.h"
#include "spawner/store/lmdb_file.h"
#include "spawner/store/ring_transport.h"

namespace synfluid::spawner::store {

class LmdbStateLog final : public StateLog, public RingLog {
 public:
  explicit LmdbStateLog(LmdbFile& file) : file_(file) {}

  /// What the file holds; connections are numbered anew, from 0. Later changes are told by the engine into
  /// which this was restored.
  Result<EngineState> load();
  /// Writes a state whole, into tables that are empty.
  Status save(const EngineState& state);

  void domain_changed(const DomainState& domain) override;
  void domain_gone(DomId domid) override;
  void watch_added(ConnectionId connection, const WatchState& watch) override;
  void watch_removed(ConnectionId connection, const WatchState& watch) override;

  void remnant_left(ConnectionId connection, const RingRemnant& remnant) override;
  std::optional<RingRemnant> remnant_of(DomId domid) override;

 private:
  Status put_domain(LmdbFile::Transaction& transaction, const DomainState& domain);
  void remember(const DomainState& domain);
  Status put_watch(LmdbFile::Transaction& transaction, DomId domid, const WatchState& watch);
  /// Commits what `change(transaction)` does; a failure is logged.
  template <class Change>
  void change(Change change);

  LmdbFile& file_;
  std::map<ConnectionId, DomId> domains_;
  std::map<DomId, ConnectionId> connections_;
  std::map<std::string, uint32_t> watches_;  ///< domain, path and token to the number in the key
  uint32_t next_watch_ = 1;
};

}  // namespace synfluid::spawner::store
