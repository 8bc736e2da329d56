// Frames on their way out, gathered per side so that each turn sends a few large bursts.
//
// Threads: the worker's. Ownership: a frame put in is the buffer's; flush() hands it to the port, or back to
// the caller through `rejected` when the port takes no more.
#pragma once

#include <algorithm>
#include <array>
#include <span>

#include "gateway/packet_io.h"

namespace synfluid::gateway {

class TxBuffer {
 public:
  explicit TxBuffer(PacketIo& io) : io_(io) {}

  /// Returns those for which there was no room: flush first.
  std::span<rte_mbuf*> put(Side side, std::span<rte_mbuf*> frames) noexcept {
    Queue& q = queues_[index_of(side)];
    const size_t fit = std::min(frames.size(), q.frames.size() - q.count);
    std::copy_n(frames.data(), fit, q.frames.data() + q.count);
    q.count += fit;
    return frames.subspan(fit);
  }

  /// Calls sent(side, frame count) and, for each frame that the port did not take, rejected(frame).
  template <class Sent, class Rejected>
  void flush(Side side, Sent&& sent, Rejected&& rejected) noexcept {
    Queue& q = queues_[index_of(side)];
    if (q.count == 0) return;
    size_t taken = 0;
    while (taken < q.count) {
      const size_t more = io_.tx_burst(side, std::span(q.frames).subspan(taken, q.count - taken));
      if (more == 0) break;
      taken += more;
    }
    sent(side, taken);
    for (size_t i = taken; i < q.count; ++i) rejected(q.frames[i]);
    q.count = 0;
  }

 private:
  struct Queue {
    size_t count = 0;
    std::array<rte_mbuf*, 4 * kBurst> frames;
  };
  PacketIo& io_;
  std::array<Queue, kSides> queues_;
};

}  // namespace synfluid::gateway
