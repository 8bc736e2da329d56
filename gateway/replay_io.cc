#include "gateway/replay_io.h"

#include <algorithm>
#include <cstring>

namespace synfluid::gateway {

ReplayIo::~ReplayIo() {
  for (auto& queue : waiting_)
    for (rte_mbuf* frame : queue) rte_pktmbuf_free(frame);
}

bool ReplayIo::inject(Side side, std::span<const std::byte> frame) {
  rte_mbuf* const mbuf = rte_pktmbuf_alloc(&pool_);
  if (mbuf == nullptr) return false;
  if (frame.size() > rte_pktmbuf_tailroom(mbuf)) {
    rte_pktmbuf_free(mbuf);
    return false;
  }
  if (!frame.empty())
    std::memcpy(rte_pktmbuf_append(mbuf, static_cast<uint16_t>(frame.size())), frame.data(), frame.size());
  waiting_[index_of(side)].push_back(mbuf);
  return true;
}

size_t ReplayIo::rx_burst(Side side, std::span<rte_mbuf*> out) noexcept {
  auto& queue = waiting_[index_of(side)];
  const size_t count = std::min(out.size(), queue.size());
  std::copy_n(queue.begin(), count, out.begin());
  queue.erase(queue.begin(), queue.begin() + static_cast<ptrdiff_t>(count));
  return count;
}

size_t ReplayIo::tx_burst(Side side, std::span<rte_mbuf*> frames) noexcept {
  for (rte_mbuf* frame : frames) {
    if (sink_) sink_(side, bytes_of(frame));
    rte_pktmbuf_free(frame);
  }
  return frames.size();
}

}  // namespace synfluid::gateway
