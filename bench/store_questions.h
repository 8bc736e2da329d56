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

/// Microseconds of the daemon's CPU per READ, WRITE or transaction of ten WRITEs, by so many clients at once.
/// Each client is a thread of its own that waits for its reply before it asks for more.
Samples read_us(const StoreDaemon& daemon, const StoreLoad& load, uint32_t clients);
Samples write_us(const StoreDaemon& daemon, const StoreLoad& load, uint32_t clients);
Samples transaction10_us(const StoreDaemon& daemon, const StoreLoad& load, uint32_t clients);

/// Microseconds from a WRITE to the event at a client that waits, the daemon asleep before.
Samples watch_us(const StoreDaemon& daemon, const StoreLoad& load);

/// A cost at each of several sizes, which ascend and which one daemon is brought through.
using Costs = Result<std::vector<std::vector<double>>>;

/// A WRITE's while so many other clients are connected, each with two watches.
Costs write_us_among_clients(const StoreDaemon& daemon, const StoreLoad& load,
                             const std::vector<uint32_t>& sizes);
/// A WRITE's while one other client has so many watches, none of them on what is written.
Costs write_us_among_watches(const StoreDaemon& daemon, const StoreLoad& load,
                             const std::vector<uint32_t>& sizes);
/// A WRITE's in a tree of so many nodes, guests of 17 each. `bytes_per_node`: the daemon's memory, from the
/// first size to the last.
Costs write_us_among_nodes(const StoreDaemon& daemon, const StoreLoad& load,
                           const std::vector<uint32_t>& sizes, double& bytes_per_node);

inline constexpr uint32_t kIntroducedARound = 10;
/// An INTRODUCE's after so many others. There are `rounds` * kIntroducedARound + 1 domains more than the last
/// size, and as many between two. `port_us`: what the kernel and Xen take to bind one port at each size,
/// which each INTRODUCE has to wait for.
Costs introduce_us(const StoreDaemon& daemon, uint32_t rounds,
                   const std::vector<spawner::store::xen::EmptyDomain>& domains,
                   const std::vector<uint32_t>& sizes, std::vector<double>& port_us);

}  // namespace synfluid::bench
