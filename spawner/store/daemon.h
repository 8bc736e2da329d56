// The store as a process: storage, engine, switchboard, sockets and domains, wired, and the loop that turns
// them.
//
// Threads: one. Ownership: owns all parts. Errors: Result at set-up; afterwards only a broken event loop ends
// it.
#pragma once

#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/clock.h"
#include "spawner/store/event_loop.h"
#include "spawner/store/lmdb_file.h"
#include "spawner/store/persistence.h"
#include "spawner/store/socket_transport.h"
#include "spawner/store/switchboard.h"
#include "spawner/store/xen/xen_domains.h"

namespace synfluid::spawner::store {

struct DaemonConfig {
  std::vector<std::string> sockets;
  /// Where the nodes are written through to; empty: they are in memory alone.
  std::string lmdb_path;
  /// Where a store that keeps its nodes in memory leaves them for its successor; empty: nowhere.
  std::string handover_path;
  bool domains = true;
  Quotas quotas{};
};

class Daemon {
 public:
  static Result<std::unique_ptr<Daemon>> start(const DaemonConfig& config);
  ~Daemon();
  Daemon(const Daemon&) = delete;
  Daemon& operator=(const Daemon&) = delete;

  /// Until SIGTERM or SIGINT, which must be blocked before start(). Then the handover is written.
  Status run();

 private:
  class Signals;
  class NoDomains;

  Daemon(DaemonConfig config, EventLoop loop);
  /// What a predecessor left beside the nodes.
  struct Legacy {
    EngineState engine;
    std::map<DomId, RingRemnant> remnants;
    void add(const EngineState& state, RingLog& log);
    std::optional<RingRemnant> remnant_of(DomId domid) const;
  };

  Status open_storage(Legacy& legacy);
  Status take_handover(Legacy& legacy);
  Status write_handover() const;
  Status open_domains();
  void connect_domains(const Legacy& legacy);
  Status open_sockets();
  Status open_signals();
  int timeout_ms();
  void turn();

  const DaemonConfig config_;
  const SteadyClock clock_;
  EventLoop loop_;
  std::unique_ptr<LmdbFile> file_;
  std::unique_ptr<LmdbStateLog> log_;
  std::unique_ptr<Storage> storage_;
  Switchboard board_;
  std::unique_ptr<xen::XenDomains> xen_;
  std::unique_ptr<NoDomains> no_domains_;
  std::unique_ptr<Engine> engine_;
  std::vector<std::unique_ptr<SocketListener>> listeners_;
  std::unique_ptr<Signals> signals_;
  int wait_ms_ = -1;  ///< until the domains want a turn
  int64_t next_tick_ns_ = 0;
};

}  // namespace synfluid::spawner::store
