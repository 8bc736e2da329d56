// A network interface of this host as a port: frames exactly as they are on its wire.
//
//     kernel ─▶ receive ring (shared memory) ─▶ mbuf: one copy, no system call
//            ╲▶ socket's queue ─▶ segmenter.h ─▶ mbufs: frames that offloads have made longer than the ring's
//            slots
//     mbufs ─▶ sendmmsg ─▶ driver: a burst a call, past the queueing disciplines
//
// What the kernel takes off or leaves undone on the way in is put back: VLAN tags (802.1Q, 802.1ad) come from
// the ring's own fields, checksums that it left to hardware are completed where its virtio header says, and
// what it left whole (TSO) or has put together (GRO) is cut into the frames that it stands for. Fragments
// stay fragments: there is no fan-out, which is where the kernel would put them together. What the host
// itself sends out of the interface is not seen.
//
// Threads: a worker's, but for losses(). Ownership: as packet_io.h; the ring is unmapped and promiscuous mode
// left with the object. Limits: a slot of the ring holds the interface's MTU, at most kMaxFrameBytes; of
// longer frames, what is neither to be cut nor fits an mbuf is counted and lost. Errors: open() in one line;
// later a frame that the kernel refuses is counted. Source: Linux, Documentation/networking/packet_mmap.rst,
// TPACKET_V2 (V3 hands over whole blocks, which costs a lone SYN a millisecond);
// include/uapi/linux/virtio_net.h.
#pragma once

#include <array>
#include <atomic>
#include <memory>
#include <string>

#include "base/result.h"
#include "base/unique_fd.h"
#include "gateway/counter.h"
#include "gateway/port_device.h"
#include "gateway/segmenter.h"

namespace synfluid::gateway {

class PacketSocket final : public PortDevice {
 public:
  /// Frames are received into mbufs of `pool`.
  static Result<std::unique_ptr<PacketSocket>> open(const std::string& interface, rte_mempool& pool);
  ~PacketSocket() override;

  size_t rx_burst(std::span<rte_mbuf*> out) noexcept override;
  size_t tx_burst(std::span<rte_mbuf*> frames) noexcept override;
  int wake_fd() const noexcept override { return receiver_.get(); }
  PortLosses losses() noexcept override;

 private:
  /// The receive ring as it is mapped.
  struct Ring {
    std::byte* memory = nullptr;
    uint32_t slot_bytes = 0;
    uint32_t slots = 0;
    std::byte* slot(uint32_t number) const { return memory + size_t{number} * slot_bytes; }
    size_t bytes() const { return size_t{slots} * slot_bytes; }
  };

  PacketSocket(UniqueFd receiver, UniqueFd sender, Ring ring, rte_mempool& pool)
      : receiver_(std::move(receiver)), sender_(std::move(sender)), ring_(ring), pool_(pool) {}

  static Result<Ring> map_ring(int fd, uint32_t mtu);
  bool take(std::byte* slot, rte_mbuf*& frame) noexcept;
  bool cut(rte_mbuf*& frame) noexcept;

  const UniqueFd receiver_;
  const UniqueFd sender_;
  const Ring ring_;
  rte_mempool& pool_;
  /// The longest IP packet, with two tags in front of it.
  static constexpr size_t kWholeBytes = 22 + 65535;

  uint32_t next_ = 0;
  const std::unique_ptr<std::array<std::byte, kWholeBytes>> whole_ =
      std::make_unique<std::array<std::byte, kWholeBytes>>();
  Segmenter segments_;  ///< of a frame in `whole_`
  Counter too_long_;
  Counter not_sent_;
  uint64_t kernel_drops_ = 0;  ///< the control thread's: the kernel's count starts anew with each look
};

}  // namespace synfluid::gateway
