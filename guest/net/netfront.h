// The front end of the guest's one vif, over an area that the builder laid out (base/abi/card.h): no
// negotiation.
//
// Buffers: each page is in one place at a time: posted on the receive ring, in a received frame that the core
// holds, taken for writing, on the transmit ring, or free. A received frame goes back with recycle(), or out
// again from the very page it came in with forward(): nothing is copied. Free pages refill the receive ring
// up to `rx_target`.
//
// Notification, both ways, follows the ring protocol: flush() rings the host at most once, and only if it
// asked; arm() asks the host for the next event and looks once more, so that none is lost. While the guest
// has buffers enough, it does not ask to hear of finished transmissions.
//
// Trust: the host is the guest's world; ids out of range are ignored all the same. One thread. Units: bytes.
#pragma once

#include <cstdint>
#include <span>

#include "base/abi/card.h"
#include "guest/platform/platform.h"

namespace synfluid::guest::net {

/// Pages a frame may take: kMaxFrameBytes of the back end is 9216.
inline constexpr uint32_t kMaxFragments = 3;

struct Fragment {
  std::byte* data = nullptr;
  uint16_t length = 0;
  uint16_t buffer = 0;
};

struct RxFrame {
  Fragment fragments[kMaxFragments];
  uint8_t count = 0;
  uint32_t length = 0;
  bool checksum_trusted = false;  ///< the host vouches for the TCP checksum
  bool checksum_blank = false;    ///< and it is not filled in

  std::span<std::byte> first() const { return {fragments[0].data, fragments[0].length}; }
};

struct NetfrontCounters {
  uint64_t received = 0;
  uint64_t sent = 0;
  uint64_t unusable = 0;  ///< received frames with errors, too many pages or unknown extra information
};

class Netfront {
 public:
  Netfront(Platform& platform, uint32_t rx_target);

  /// The next received frame, now the caller's; false: none.
  bool receive(RxFrame& frame);
  void recycle(const RxFrame& frame);

  /// Sends a received frame as it is. False: the transmit ring is full and the frame is still the caller's.
  bool forward(const RxFrame& frame);

  /// A free page to write a frame into; nullptr: none now. Goes back with transmit() or release().
  std::byte* take();
  void transmit(std::byte* page, uint32_t bytes);
  void release(std::byte* page);

  /// True if take() and a transmission would work now.
  bool can_transmit() const { return free_count_ > 0 && tx_room() > 0; }

  /// Takes back the pages of finished transmissions. Once per batch, before sending.
  void reap();

  /// Publishes what was sent and posted since the last flush and rings the host if it wants to know.
  void flush();

  /// True if receive() would find something the host has added since. Cheap; for polling.
  bool has_more() const { return __atomic_load_n(&rx_.indices.rsp_prod, __ATOMIC_RELAXED) != rx_rsp_seen_; }

  enum class Wants : uint8_t { kFrames, kBuffers };
  /// Asks for a doorbell at the next received frame; with kBuffers also at the next finished transmission.
  /// Returns true if there is something to do already.
  bool arm(Wants wants);

  const NetfrontCounters& counters() const { return counters_; }

 private:
  enum class Where : uint8_t { kFree, kPosted, kHeld, kOnTx };

  std::byte* page(uint32_t buffer) const { return buffers_ + size_t{buffer} * abi::kPageBytes; }
  uint32_t tx_room() const { return abi::kRingSlots - (tx_req_prod_ - tx_rsp_cons_); }
  void free_buffer(uint32_t buffer);
  void post(uint32_t buffer);
  void refill();
  bool next_response(abi::NetRxResponse& response);
  bool keep(RxFrame& frame, const abi::NetRxResponse& response);
  void skip_extra_info();
  void push_tx(uint32_t buffer, uint16_t offset, uint16_t size, uint16_t flags);
  static bool host_asked(uint32_t& published, uint32_t now, const uint32_t& event);

  Platform& platform_;
  abi::NetTxRing& tx_;
  abi::NetRxRing& rx_;
  std::byte* buffers_;
  uint32_t buffer_count_;
  uint32_t rx_target_;

  uint32_t tx_req_prod_ = 0;
  uint32_t tx_published_ = 0;
  uint32_t tx_rsp_cons_ = 0;
  uint32_t rx_req_prod_ = 0;
  uint32_t rx_published_ = 0;
  uint32_t rx_rsp_cons_ = 0;
  uint32_t rx_rsp_seen_ = 0;  ///< the host's index as last read
  uint32_t posted_ = 0;
  uint32_t free_count_ = 0;
  uint8_t free_[abi::kMaxBuffers];
  Where where_[abi::kMaxBuffers];
  NetfrontCounters counters_;
};

}  // namespace synfluid::guest::net
