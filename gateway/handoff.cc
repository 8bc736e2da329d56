#include "gateway/handoff.h"

namespace synfluid::gateway {

HandoffMesh::HandoffMesh(uint16_t workers) : workers_(workers) {
  for (int pair = 0; pair < workers * workers; ++pair)
    rings_.push_back(std::make_unique<spawner::SpscRing<rte_mbuf*>>(kRingFrames));
  for (uint16_t w = 0; w < workers; ++w) ends_.emplace_back(*this, w);
}

HandoffMesh::~HandoffMesh() {
  for (auto& ring : rings_)
    while (auto frame = ring->pop()) rte_pktmbuf_free(*frame);
}

bool Handoff::send(WorkerId to, rte_mbuf* frame, Side side) noexcept {
  if (to.value() >= mesh_.workers() || to.value() == self_) return false;
  frame->port = static_cast<uint16_t>(side);
  return mesh_.ring(self_, to.value()).push(std::move(frame));
}

size_t Handoff::receive(std::span<rte_mbuf*> frames, std::span<Side> sides) noexcept {
  size_t got = 0;
  for (uint16_t tried = 0; tried < mesh_.workers() && got < frames.size(); ++tried) {
    auto& ring = mesh_.ring(next_, self_);
    while (got < frames.size()) {
      const auto frame = ring.pop();
      if (!frame) break;
      frames[got] = *frame;
      sides[got++] = (*frame)->port == static_cast<uint16_t>(Side::kCore) ? Side::kCore : Side::kAccess;
    }
    next_ = static_cast<uint16_t>((next_ + 1) % mesh_.workers());
  }
  return got;
}

}  // namespace synfluid::gateway
