// Frames of 64 bytes (60 without the frame check sequence) of numbered TCP flows, and a port made of memory
// that deals them.
//
// Threads: one. Ownership: MemoryIo owns its mbufs; those it hands out come back by tx_burst or are freed.
#pragma once

#include <array>
#include <cstdint>
#include <cstring>
#include <vector>

#include "base/packet.h"
#include "gateway/packet_io.h"

namespace synfluid::bench {

inline constexpr size_t kFrameBytes = 60;
using FlowFrame = std::array<std::byte, kFrameBytes>;

/// Frame of flow `number`: from the subscriber (10.0.0.0/8) to a server, or, from kCore, back.
FlowFrame flow_frame(uint64_t number, gateway::Side from, uint8_t tcp_flags);

/// The numbers of so many flows in random order.
std::vector<uint32_t> shuffled_flows(uint64_t flows, uint64_t seed);

class MemoryIo final : public gateway::PacketIo {
 public:
  /// As many frames may be under way.
  MemoryIo(rte_mempool& pool, size_t frames);
  ~MemoryIo() override;
  MemoryIo(const MemoryIo&) = delete;
  MemoryIo& operator=(const MemoryIo&) = delete;

  /// The frame will be received on `side`. There must be one that is not under way.
  void put(gateway::Side side, const FlowFrame& frame);
  size_t free_frames() const { return free_.size(); }
  /// Frames sent since the start.
  uint64_t sent() const { return sent_; }

  size_t rx_burst(gateway::Side side, std::span<rte_mbuf*> out) noexcept override;
  size_t tx_burst(gateway::Side side, std::span<rte_mbuf*> frames) noexcept override;

 private:
  struct Queue {
    std::vector<rte_mbuf*> frames;
    size_t next = 0;
  };
  std::vector<rte_mbuf*> free_;
  std::array<Queue, gateway::kSides> in_;
  uint64_t sent_ = 0;
};

}  // namespace synfluid::bench
