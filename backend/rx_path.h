// Host to guest: fills the buffers that the guest posted on its receive ring, in place or by batched grant
// copy. Among those of plain grants, what the control ring mapped is filled in place and answered in turn.
//
// Private to backend/. Threads: the vif's owner.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>

#include "backend/ring.h"
#include "backend/vif.h"
#include "backend/vif_state.h"

namespace synfluid::backend {

class RxPath {
 public:
  RxPath(GuestLink& link, const GrantPages& pages, VifState& state);

  bool send(std::span<const std::byte> frame, FrameChecksum checksum) noexcept;
  /// Makes outstanding copies and publishes the answers; true if the guest wants to be rung.
  bool publish() noexcept;
  /// After a send() that found no buffer, asks for a doorbell when it would find one. True, once, if it would
  /// already.
  bool arm() noexcept;
  uint32_t max_bytes() const noexcept { return max_bytes_; }

 private:
  static constexpr uint32_t kMaxSlots = (kMaxFrameBytes + abi::kPageBytes - 1) / abi::kPageBytes;

  /// The buffers for one frame.
  struct Buffers {
    std::array<abi::NetRxRequest, kMaxSlots> request;
    std::array<std::byte*, kMaxSlots> page;  ///< nullptr: to be reached by grant copy
  };
  /// Frames copied to the host's side of the grant copies, and answers to be given, in order, when they are
  /// made.
  struct Staging {
    std::array<GrantCopy, kStagingCopies> copies;
    std::array<abi::NetRxResponse, kStagingCopies> answers;
    std::array<bool, kStagingCopies> is_copied;  ///< by answer: the next copy is its own
    std::array<std::byte, kStagingBytes> bytes;
    uint32_t count = 0;  ///< of answers
    uint32_t copy_count = 0;
    uint32_t used = 0;
  };

  bool take_buffers(uint32_t slots, Buffers& out) noexcept;
  uint32_t resolve(uint32_t slots, Buffers& out) noexcept;
  void refuse(uint32_t slots, const Buffers& buffers) noexcept;
  void call_up_later_buffer() const noexcept;
  void fill_mapped(std::span<const std::byte> frame, uint32_t slots, uint16_t flags,
                   const Buffers& b) noexcept;
  void fill_staged(std::span<const std::byte> frame, uint32_t slots, uint16_t flags,
                   const Buffers& b) noexcept;
  void run_copies() noexcept;

  GuestLink& link_;
  const GrantPages& pages_;
  VifState& state_;
  RxBackRing ring_;
  uint32_t max_bytes_;
  uint32_t starved_of_ = 0;           ///< buffers that the last send() did not find
  std::unique_ptr<Staging> staging_;  ///< only for plain grants
};

}  // namespace synfluid::backend
