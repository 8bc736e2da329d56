// Several workers behind a port with one queue: worker 0 receives and sends for all.
//
// Frames are spread by the keyed hash of their flow key, which is the same for both directions, so these meet
// at the same worker; what is no TCP stays with worker 0. The secret is not that of the workers' tables: with
// that, a worker would see only flows that belong in its share of the buckets. Between worker 0 and each
// other one there is a bounded lock-free ring per direction and side. Threads: io(w) belongs to worker w.
// Ownership: frames in the rings when the Spread goes are freed.
#pragma once

#include <memory>
#include <vector>

#include "flowtable/flow_hash.h"
#include "gateway/counter.h"
#include "gateway/packet_io.h"
#include "spawner/spsc_ring.h"

namespace synfluid::gateway {

/// Which of `workers` a frame belongs to; nobody knows without the secret.
class Spreading {
 public:
  Spreading(uint16_t workers, const flowtable::Secret& secret) : workers_(workers), hash_(secret) {}
  uint16_t workers() const noexcept { return workers_; }
  uint16_t worker_of(std::span<const std::byte> frame) const noexcept;

 private:
  uint16_t workers_;
  flowtable::FlowHash hash_;
};

class Spread {
 public:
  static constexpr uint32_t kRingFrames = 1024;

  /// `device` outlives the Spread, which outlives its ios.
  Spread(PacketIo& device, const Spreading& spreading);
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
  const Spreading spreading_;
  std::vector<std::unique_ptr<Lane>> lanes_;  ///< by worker; none for worker 0
  Counter drops_;
};

}  // namespace synfluid::gateway
