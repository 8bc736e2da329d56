// The questions that bench/store asks of one daemon. Each leaves the tree as it found it, as far as the
// figure allows, and returns one sample a round, in the unit its name says.
//
// Threads: one. Errors: what the store or the machine refused.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "base/result.h"
#include "bench/store_client.h"
#include "bench/store_daemon.h"
#include "spawner/store/xen/empty_domain.h"

namespace synfluid::bench {

using Samples = Result<std::vector<double>>;

struct StoreLoad {
  uint32_t rounds = 5;
  uint32_t operations = 640;  ///< a round, shared by the clients
};

/// Microseconds of the daemon's CPU per READ, WRITE or transaction of ten WRITEs, by so many clients that all
/// send before any of them looks for its reply.
Samples read_us(const StoreDaemon& daemon, const StoreLoad& load, uint32_t clients);
Samples write_us(const StoreDaemon& daemon, const StoreLoad& load, uint32_t clients);
Samples transaction10_us(const StoreDaemon& daemon, const StoreLoad& load, uint32_t clients);

/// Microseconds from a WRITE to the event at a client that waits, the daemon asleep before.
Samples watch_us(const StoreDaemon& daemon, const StoreLoad& load);

/// A WRITE's cost while so many other clients are connected, each with two watches.
Samples write_among_clients_us(const StoreDaemon& daemon, const StoreLoad& load, uint32_t clients);
/// A WRITE's cost while one other client has so many watches, none of them on what is written.
Samples write_among_watches_us(const StoreDaemon& daemon, const StoreLoad& load, uint32_t watches);

struct NodesResult {
  std::vector<std::vector<double>> costs;  ///< a WRITE's, at each size
  double bytes_per_node = 0;               ///< from the first size to the last
};
/// In a tree that grows from each of the sizes to the next: guests of 17 nodes each.
Result<NodesResult> write_among_nodes(const StoreDaemon& daemon, const StoreLoad& load,
                                      const std::vector<uint32_t>& sizes);

/// Microseconds of an INTRODUCE of each domain, ten at a time, in their order.
Samples introduce_us(const StoreDaemon& daemon, const std::vector<spawner::store::xen::EmptyDomain>& domains);

}  // namespace synfluid::bench
