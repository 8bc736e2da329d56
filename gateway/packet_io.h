// The waist between a worker and the wire: receive a burst, send a burst, on two sides.
//
// Implementations: PortPair (gateway/port_device.h: DPDK devices and packet sockets), Spread
// (gateway/spread.h: workers without a queue of their own), ReplayIo (gateway/replay_io.h: a capture file),
// and the fakes of tests/sim. Threads: one worker each, all calls from its thread. Ownership: rx_burst hands
// its mbufs to the caller; tx_burst takes those it accepts, and the rest stays the caller's. No call waits.
// Frames are single-segment mbufs with the Ethernet header first and without the frame check sequence.
#pragma once

#include <cstdint>
#include <span>

#include <rte_mbuf.h>
#include <rte_prefetch.h>

#include "backend/guard.h"

namespace synfluid::gateway {

/// The two ends of the bump in the wire. Subscribers are on the access side.
using Side = backend::Side;
inline constexpr int kSides = 2;
constexpr Side opposite(Side side) {
  return backend::other(side);
}
constexpr size_t index_of(Side side) {
  return static_cast<size_t>(side);
}
constexpr const char* name_of(Side side) {
  return side == Side::kAccess ? "access" : "core";
}
static_assert(index_of(Side::kAccess) == 0 && index_of(Side::kCore) == 1);

/// The driver of a port and the worker take turns on the first-level cache and its prefetchers. With 32 they
/// change often, with 256 a burst with its packets' parses no longer fits (bench/fastpath, on ports).
inline constexpr size_t kBurst = 64;

class PacketIo {
 public:
  virtual ~PacketIo() = default;
  /// Fills the front of `out` with frames that came in on `side` and returns how many. Their first lines are
  /// in the caller's cache, or have been called up.
  virtual size_t rx_burst(Side side, std::span<rte_mbuf*> out) noexcept = 0;
  /// Sends the front of `frames` out of `side` and returns how many it took.
  virtual size_t tx_burst(Side side, std::span<rte_mbuf*> frames) noexcept = 0;
  /// For epoll, edge-triggered: readable when frames have come in. -1: the side has to be polled.
  virtual int wake_fd(Side) const noexcept { return -1; }
};

/// Asks for the first line of each frame: they were written by a device, or by another CPU.
inline void call_up(std::span<rte_mbuf* const> frames) noexcept {
  for (rte_mbuf* frame : frames) rte_prefetch0(rte_pktmbuf_mtod(frame, const void*));
}

/// The bytes of a single-segment frame.
inline std::span<std::byte> bytes_of(rte_mbuf* frame) {
  return {rte_pktmbuf_mtod(frame, std::byte*), rte_pktmbuf_data_len(frame)};
}

}  // namespace synfluid::gateway
