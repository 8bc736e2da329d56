// Frames that wait: for a VM, or for room in a VM's receive ring. A fixed number of places, in linked lists.
//
// Threads: the worker's alone. Ownership: a frame that was put in belongs to its place until it is taken out;
// frames still held when the HeldFrames goes are freed. No allocation after construction.
#pragma once

#include <cstdint>
#include <vector>

#include "gateway/flow_data.h"
#include "gateway/packet_io.h"

namespace synfluid::gateway {

struct HeldFrame {
  rte_mbuf* frame = nullptr;
  uint32_t next = kNone;
  Side side = Side::kAccess;  ///< where it came in
};

class HeldFrames {
 public:
  explicit HeldFrames(uint32_t places);
  ~HeldFrames();
  HeldFrames(const HeldFrames&) = delete;
  HeldFrames& operator=(const HeldFrames&) = delete;

  /// The new place, or kNone when all are taken; the frame is then still the caller's.
  uint32_t append(HeldList& list, rte_mbuf* frame, Side side) noexcept;
  /// Takes the first frame out; the list must not be empty.
  HeldFrame pop(HeldList& list) noexcept;
  const HeldFrame& at(uint32_t place) const noexcept { return places_[place]; }

  uint32_t held() const noexcept { return held_; }

 private:
  std::vector<HeldFrame> places_;
  uint32_t free_ = kNone;
  uint32_t held_ = 0;
};

}  // namespace synfluid::gateway
