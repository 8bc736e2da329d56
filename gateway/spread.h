// Several workers behind a port with one queue: worker 0 receives and sends for all.
//
// Frames are spread by a symmetric hash of their flow key, so both directions of a flow meet the same worker;
// what is no TCP stays with worker 0. Between worker 0 and each other one there is a bounded lock-free ring
// per direction and side. Threads: io(w) belongs to worker w. Ownership: frames in the rings when the Spread
// goes are freed.
#pragma once

#include <memory>
#include <vector>

#include "gateway/counter.h"
#include "gateway/packet_io.h"
#include "spawner/spsc_ring.h"

namespace synfluid::gateway {

class Spread {
 public:
  static constexpr uint32_t kRingFrames = 1024;

  /// `device` outlives the Spread, which outlives its ios.
  Spread(PacketIo& device, uint16_t workers);
  ~Spread();
  Spread(const Spread&) = delete;
  Spread& operator=(const Spread&) = delete;

  std::unique_ptr<PacketIo> io(uint16_t worker);
  uint64_t drops() const { return drops_.get(); }

 private:
  class First;
  class Other;
  using Ring = spawner::SpscRing<rte_mbuf*>;
  struct Lane {
    Ring received[kSides]{Ring(kRingFrames), Ring(kRingFrames)};
    Ring to_send[kSides]{Ring(kRingFrames), Ring(kRingFrames)};
  };

  PacketIo& device_;
  const uint16_t workers_;
  std::vector<std::unique_ptr<Lane>> lanes_;  ///< by worker; none for worker 0
  Counter drops_;
};

/// Which of `workers` a frame belongs to; the same for both directions of a flow.
uint16_t worker_of(std::span<const std::byte> frame, uint16_t workers) noexcept;

}  // namespace synfluid::gateway
