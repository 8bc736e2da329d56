// DPDK's environment: started once per process, before anything else of rte_*.
//
// With hugepages it uses them; without, ordinary memory of a stated size, which needs no privilege: replay,
// tests and a PV dom0 (which has no hugepages) run like that. Threads: start() from the main thread.
// Ownership: Eal cleans up when it goes; mempools and ports must be gone by then. Errors: one line naming
// what DPDK refused.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include <rte_mempool.h>

#include "base/result.h"

namespace synfluid::gateway {

struct EalConfig {
  enum class Hugepages : uint8_t { kAuto, kOff };
  Hugepages hugepages = Hugepages::kAuto;
  uint32_t memory_mib = 64;  ///< without hugepages
  uint16_t workers = 1;
  std::vector<std::string> vdevs = {};  ///< "net_af_packet0,iface=veth1"
  std::vector<std::string> pci = {};    ///< "0000:03:00.0"
};

class Eal {
 public:
  static Result<std::unique_ptr<Eal>> start(const EalConfig& config);
  ~Eal();
  Eal(const Eal&) = delete;
  Eal& operator=(const Eal&) = delete;

  bool uses_hugepages() const { return hugepages_; }
  /// The first complaint of DPDK and its drivers while it started; empty if there was none.
  const std::string& complaint() const { return complaint_; }

 private:
  Eal(bool hugepages, std::string complaint) : hugepages_(hugepages), complaint_(std::move(complaint)) {}
  const bool hugepages_;
  const std::string complaint_;
};

/// True if the kernel has free hugepages and a mount to take them from.
bool hugepages_available();

struct PoolConfig {
  std::string name;
  uint32_t frames = 8192;
  uint32_t frame_bytes = 2048;  ///< the longest frame
  uint32_t lcore_cache = 0;  ///< frames that each lcore may keep for itself, to leave the shared ring alone
};

struct PoolDeleter {
  void operator()(rte_mempool* pool) const { rte_mempool_free(pool); }
};
using MbufPool = std::unique_ptr<rte_mempool, PoolDeleter>;

Result<MbufPool> make_pool(const PoolConfig& config);

}  // namespace synfluid::gateway
