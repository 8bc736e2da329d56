// From worker to worker: frames of flows whose VM another worker owns.
//
// One bounded single-producer single-consumer ring for each ordered pair, so nobody waits and nothing is
// locked. Threads: send() from worker `from`, receive() from worker `to`. Ownership: a frame that send() took
// is the receiver's; those still in a ring when the Handoff goes are freed. The frame's mbuf port field
// carries the side it came in on.
#pragma once

#include <memory>
#include <span>
#include <vector>

#include "base/strong_id.h"
#include "gateway/packet_io.h"
#include "spawner/spsc_ring.h"

namespace synfluid::gateway {

class HandoffMesh;

/// One worker's end of the mesh.
class Handoff {
 public:
  Handoff(HandoffMesh& mesh, uint16_t self) : mesh_(mesh), self_(self) {}
  /// False: no such worker, or its inbox is full; the frame is still the caller's.
  bool send(WorkerId to, rte_mbuf* frame, Side side) noexcept;
  size_t receive(std::span<rte_mbuf*> frames, std::span<Side> sides) noexcept;

 private:
  HandoffMesh& mesh_;
  const uint16_t self_;
  uint16_t next_ = 0;
};

class HandoffMesh {
 public:
  /// Frames in one ring: what one worker receives in a few turns.
  static constexpr uint32_t kRingFrames = 1024;

  explicit HandoffMesh(uint16_t workers);
  ~HandoffMesh();
  HandoffMesh(const HandoffMesh&) = delete;
  HandoffMesh& operator=(const HandoffMesh&) = delete;

  Handoff& end(uint16_t worker) { return ends_[worker]; }
  uint16_t workers() const { return workers_; }

 private:
  friend class Handoff;
  spawner::SpscRing<rte_mbuf*>& ring(uint16_t from, uint16_t to) { return *rings_[from * workers_ + to]; }

  const uint16_t workers_;
  std::vector<std::unique_ptr<spawner::SpscRing<rte_mbuf*>>> rings_;
  std::vector<Handoff> ends_;
};

}  // namespace synfluid::gateway
