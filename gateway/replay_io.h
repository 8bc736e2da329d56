// The waist to the wire for a replay: frames are put in by the player of the trace, and what leaves is told
// to a sink.
//
// Threads: one. Ownership: as packet_io.h; frames that leave are shown to the sink and freed. It takes all it
// is given, so that a replay loses nothing on its way out.
#pragma once

#include <deque>
#include <functional>

#include "gateway/packet_io.h"

namespace synfluid::gateway {

class ReplayIo final : public PacketIo {
 public:
  using Sink = std::function<void(Side, std::span<const std::byte>)>;

  explicit ReplayIo(rte_mempool& pool) : pool_(pool) {}
  ~ReplayIo() override;

  void set_sink(Sink sink) { sink_ = std::move(sink); }

  /// Puts a frame where the worker will receive it. False: the pool is empty, or the frame is too long for
  /// it.
  bool inject(Side side, std::span<const std::byte> frame);
  bool empty() const { return waiting_[0].empty() && waiting_[1].empty(); }

  size_t rx_burst(Side side, std::span<rte_mbuf*> out) noexcept override;
  size_t tx_burst(Side side, std::span<rte_mbuf*> frames) noexcept override;

 private:
  rte_mempool& pool_;
  Sink sink_;
  std::deque<rte_mbuf*> waiting_[kSides];
};

}  // namespace synfluid::gateway
