// One side's end of the wire, for one worker: what PacketIo is for two sides.
//
// Implementations: a queue of a DPDK device (ports.cc), a packet socket (packet_socket.h). Threads: one, but
// for counters(), which is the control thread's. Ownership and no waiting, as packet_io.h.
#pragma once

#include <cstdint>
#include <memory>
#include <span>

#include "gateway/packet_io.h"

namespace synfluid::gateway {

/// What a port lost before a worker saw it, or after it gave it away. Since the port was opened.
struct PortLosses {
  uint64_t kernel_drops = 0;  ///< came while the receive ring was full
  uint64_t too_long = 0;      ///< longer than the port's frames, and nothing that can be cut into such
  uint64_t not_sent = 0;      ///< refused for what they are: longer than the interface's MTU
};

class PortDevice {
 public:
  virtual ~PortDevice() = default;
  virtual size_t rx_burst(std::span<rte_mbuf*> out) noexcept = 0;
  virtual size_t tx_burst(std::span<rte_mbuf*> frames) noexcept = 0;
  /// Readable, once, when frames came in since the last burst; -1: it has to be polled.
  virtual int wake_fd() const noexcept { return -1; }
  virtual PortLosses losses() noexcept { return {}; }
};

/// The two sides of a worker; the devices outlive it.
class PortPair final : public PacketIo {
 public:
  PortPair(PortDevice& access, PortDevice& core) : devices_{&access, &core} {}

  size_t rx_burst(Side side, std::span<rte_mbuf*> out) noexcept override {
    return devices_[index_of(side)]->rx_burst(out);
  }
  size_t tx_burst(Side side, std::span<rte_mbuf*> frames) noexcept override {
    return devices_[index_of(side)]->tx_burst(frames);
  }
  int wake_fd(Side side) const noexcept override { return devices_[index_of(side)]->wake_fd(); }

 private:
  PortDevice* const devices_[kSides];
};

}  // namespace synfluid::gateway
