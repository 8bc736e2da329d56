// A DPDK shared-memory port of this process, with one queue, whose other end is a testpmd of its own.
//
// Threads: one. Ownership: the port is closed with its owner, the peer's process ends with it.
#pragma once

#include <memory>
#include <string>

#include <rte_mbuf.h>

#include "bench/testpmd.h"

namespace synfluid::bench {

class SharedPort {
 public:
  struct Config {
    std::string device;        ///< ours, made when the EAL started: "net_memif0"
    std::string peer_vdev;     ///< the other end, with its arguments
    std::string forward_mode;  ///< of the peer: "io" sends everything back, "rxonly" nothing
    int cpu = -1;              ///< of the peer
    uint16_t descriptors = 0;
  };
  static Result<std::unique_ptr<SharedPort>> open(const Config& config, rte_mempool& pool);
  ~SharedPort();
  SharedPort(const SharedPort&) = delete;
  SharedPort& operator=(const SharedPort&) = delete;

  uint16_t number() const { return port_; }
  /// The peer forwards only in between: else it would take a core from who is measured next.
  Status begin() { return peer_->begin(); }
  Status end();

 private:
  explicit SharedPort(uint16_t port) : port_(port) {}

  const uint16_t port_;
  std::unique_ptr<Testpmd> peer_;
};

}  // namespace synfluid::bench
