#include "gateway/spread.h"

#include "base/packet.h"

namespace synfluid::gateway {

uint16_t Spreading::worker_of(std::span<const std::byte> frame) const noexcept {
  const ParsedPacket packet = parse_packet(frame);
  if (packet.kind != PacketKind::kTcp) return 0;
  const uint64_t upper_half = hash_(packet.flow.key) >> 32;
  return static_cast<uint16_t>(upper_half * workers_ >> 32);
}

/// Worker 0: the one at the device.
class Spread::First final : public PacketIo {
 public:
  explicit First(Spread& spread) : spread_(spread) {}
  ~First() override {
    for (Stuck& stuck : stuck_)
      if (stuck.frame != nullptr) rte_pktmbuf_free(stuck.frame);
  }

  size_t rx_burst(Side side, std::span<rte_mbuf*> out) noexcept override {
    send_for_others(side);
    const size_t received = spread_.device_.rx_burst(side, out);
    size_t own = 0;
    for (size_t i = 0; i < received; ++i) {
      rte_mbuf* frame = out[i];
      const uint16_t worker = spread_.spreading_.worker_of(bytes_of(frame));
      if (worker == 0) {
        out[own++] = frame;
      } else if (!spread_.lanes_[worker]->received[index_of(side)].push(std::move(frame))) {
        spread_.drops_.add();
        rte_pktmbuf_free(frame);
      }
    }
    return own;
  }

  size_t tx_burst(Side side, std::span<rte_mbuf*> frames) noexcept override {
    return spread_.device_.tx_burst(side, frames);
  }

 private:
  /// A frame that left its ring but that the device would not take yet.
  struct Stuck {
    rte_mbuf* frame = nullptr;
  };

  bool send_one(Side side, rte_mbuf* frame) {
    return spread_.device_.tx_burst(side, std::span(&frame, 1)) == 1;
  }

  void send_for_others(Side side) {
    Stuck& stuck = stuck_[index_of(side)];
    if (stuck.frame != nullptr && !send_one(side, stuck.frame)) return;
    stuck.frame = nullptr;
    for (uint16_t worker = 1; worker < spread_.spreading_.workers(); ++worker) {
      Ring& ring = spread_.lanes_[worker]->to_send[index_of(side)];
      for (size_t n = 0; n < kBurst; ++n) {
        const auto frame = ring.pop();
        if (!frame) break;
        if (send_one(side, *frame)) continue;
        stuck.frame = *frame;
        return;
      }
    }
  }

  Spread& spread_;
  Stuck stuck_[kSides];
};

class Spread::Other final : public PacketIo {
 public:
  explicit Other(Lane& lane) : lane_(lane) {}

  size_t rx_burst(Side side, std::span<rte_mbuf*> out) noexcept override {
    size_t got = 0;
    while (got < out.size()) {
      const auto frame = lane_.received[index_of(side)].pop();
      if (!frame) break;
      out[got++] = *frame;
    }
    call_up(out.first(got));  // the first worker's CPU had them
    return got;
  }
  size_t tx_burst(Side side, std::span<rte_mbuf*> frames) noexcept override {
    size_t sent = 0;
    while (sent < frames.size() && lane_.to_send[index_of(side)].push(std::move(frames[sent]))) ++sent;
    return sent;
  }

 private:
  Lane& lane_;
};

Spread::Spread(PacketIo& device, const Spreading& spreading)
    : device_(device), spreading_(spreading), lanes_(spreading.workers()) {
  for (uint16_t w = 1; w < spreading.workers(); ++w) lanes_[w] = std::make_unique<Lane>();
}

Spread::~Spread() {
  for (const auto& lane : lanes_) {
    if (!lane) continue;
    for (Ring* ring : {&lane->received[0], &lane->received[1], &lane->to_send[0], &lane->to_send[1]})
      while (auto frame = ring->pop()) rte_pktmbuf_free(*frame);
  }
}

std::unique_ptr<PacketIo> Spread::io(uint16_t worker) {
  if (worker == 0) return std::make_unique<First>(*this);
  return std::make_unique<Other>(*lanes_[worker]);
}

}  // namespace synfluid::gateway
