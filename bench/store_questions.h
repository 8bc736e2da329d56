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
  uint32_t rounds = 7;
  uint32_t operations = 2'000;  ///< a round, shared by the clients
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

struct NodesResult {
  std::vector<double> few;   ///< a WRITE's cost among `few_nodes` nodes
  std::vector<double> many;  ///< and among all
  double bytes_per_node = 0;
};
/// Guests of 17 nodes each, as many as `many_nodes` takes.
Result<NodesResult> write_among_nodes(const StoreDaemon& daemon, const StoreLoad& load, uint32_t few_nodes,
                                      uint32_t many_nodes);

/// Microseconds of an INTRODUCE of each domain, ten at a time, in their order.
Samples introduce_us(const StoreDaemon& daemon, const std::vector<spawner::store::xen::EmptyDomain>& domains);

}  // namespace synfluid::bench
