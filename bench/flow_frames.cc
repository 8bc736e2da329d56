#include "bench/flow_frames.h"

#include <algorithm>
#include <numeric>
#include <random>
#include <stdexcept>

namespace synfluid::bench {

namespace {

using gateway::Side;

/// A bijection of 64 bits (an xor-shift-multiply generator's output step): flow numbers become scattered
/// keys.
uint64_t scatter(uint64_t x) {
  x = (x ^ x >> 31) * 0x9e3779b97f4a7c15;
  x = (x ^ x >> 29) * 0xd1342543de82ef95;
  return x ^ x >> 32;
}

}  // namespace

FlowFrame flow_frame(uint64_t number, Side from, uint8_t tcp_flags) {
  FlowFrame frame{};
  const uint64_t bits = scatter(number);
  const auto put = [&frame](size_t at, uint64_t value) { frame[at] = static_cast<std::byte>(value); };
  const bool back = from == Side::kCore;
  put(0, 2), put(5, back ? 1 : 2), put(6, 2), put(11, back ? 2 : 1);
  put(12, 0x08);                            // IPv4
  put(14, 0x45), put(17, 40), put(22, 64);  // 20 bytes of header, 40 in all
  put(23, 6);                               // TCP
  const size_t client = back ? 30 : 26;
  const size_t server = back ? 26 : 30;
  put(client, 10), put(client + 1, bits), put(client + 2, bits >> 8), put(client + 3, bits >> 16);
  put(server, 203), put(server + 1, bits >> 24), put(server + 2, bits >> 32), put(server + 3, bits >> 40);
  const size_t client_port = back ? 36 : 34;
  const size_t server_port = back ? 34 : 36;
  put(client_port, bits >> 48), put(client_port + 1, bits >> 56);
  put(server_port, 443 >> 8), put(server_port + 1, 443 & 0xff);
  put(46, 0x50), put(47, tcp_flags);
  return frame;
}

std::vector<uint32_t> shuffled_flows(uint64_t flows, uint64_t seed) {
  std::vector<uint32_t> order(flows);
  std::iota(order.begin(), order.end(), 0u);
  std::shuffle(order.begin(), order.end(), std::mt19937_64(seed));
  return order;
}

MemoryIo::MemoryIo(rte_mempool& pool, size_t frames) {
  free_.resize(frames);
  if (rte_pktmbuf_alloc_bulk(&pool, free_.data(), static_cast<unsigned>(frames)) != 0)
    throw std::runtime_error("the pool has too few frames");
  for (rte_mbuf* frame : free_) rte_pktmbuf_append(frame, kFrameBytes);
}

MemoryIo::~MemoryIo() {
  for (rte_mbuf* frame : free_) rte_pktmbuf_free(frame);
  for (const Queue& queue : in_)
    for (size_t i = queue.next; i < queue.frames.size(); ++i) rte_pktmbuf_free(queue.frames[i]);
}

void MemoryIo::put(Side side, const FlowFrame& frame) {
  rte_mbuf* const mbuf = free_.back();
  free_.pop_back();
  std::memcpy(rte_pktmbuf_mtod(mbuf, std::byte*), frame.data(), frame.size());
  in_[gateway::index_of(side)].frames.push_back(mbuf);
}

size_t MemoryIo::rx_burst(Side side, std::span<rte_mbuf*> out) noexcept {
  Queue& queue = in_[gateway::index_of(side)];
  const size_t count = std::min(out.size(), queue.frames.size() - queue.next);
  std::copy_n(queue.frames.begin() + static_cast<ptrdiff_t>(queue.next), count, out.begin());
  gateway::call_up(out.first(count));  // as of a device: they were written long ago
  queue.next += count;
  if (queue.next == queue.frames.size()) {
    queue.frames.clear();
    queue.next = 0;
  }
  return count;
}

size_t MemoryIo::tx_burst(Side, std::span<rte_mbuf*> frames) noexcept {
  free_.insert(free_.end(), frames.begin(), frames.end());
  sent_ += frames.size();
  return frames.size();
}

}  // namespace synfluid::bench
