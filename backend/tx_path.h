// Guest to host: takes frames from the transmit ring, in place or by batched grant copy.
//
// Mapped pages: a frame is copied straight from the guest's pages to the caller. Plain grants: a batch of
// frames is described to the hypervisor, copied into staging with one call, answered, and then handed out one
// by one; what lies in pages that the control ring mapped goes there without the hypervisor.
//
// Private to backend/. Threads: the vif's owner.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>

#include "backend/tx_chain.h"
#include "backend/vif_state.h"

namespace synfluid::backend {

class TxPath {
 public:
  TxPath(GuestLink& link, const GrantPages& pages, VifState& state);

  size_t receive(std::span<std::byte> into) noexcept;
  /// Publishes the answers; true if the guest wants to be rung.
  bool publish() noexcept { return ring_.publish(); }
  /// True if there is something to receive after all.
  bool arm() noexcept;

 private:
  /// One frame of a batch. Its slots are answered when the copies are made.
  struct Staged {
    uint32_t at;  ///< in the staging buffer
    uint16_t bytes;
    uint16_t first_copy;
    uint16_t copies;
    uint16_t slots;
    uint16_t extras;
    uint16_t first_id;
    int16_t status;
    bool checksum_blank;
  };
  struct Staging {
    std::array<GrantCopy, kStagingCopies> copies;
    std::array<Staged, kStagingCopies> frames;
    std::array<uint16_t, abi::kRingSlots> ids;
    std::array<std::byte, kStagingBytes> bytes;
  };
  /// How full the staging is while a batch is gathered.
  struct Batch {
    uint32_t frames = 0;
    uint32_t copies = 0;
    uint32_t ids = 0;
    uint32_t bytes = 0;
  };

  bool read_chain() noexcept;
  size_t receive_mapped(std::span<std::byte> into) noexcept;
  bool copy_mapped(std::span<std::byte> into) const noexcept;
  void answer_chain(int16_t status) noexcept;
  void count(int16_t status, bool is_frame, size_t bytes) noexcept;

  size_t receive_staged(std::span<std::byte> into) noexcept;
  void refill() noexcept;
  bool has_room(const Batch& batch) const noexcept;
  void stage_chain(Batch& batch) noexcept;
  void stage_fragment(Batch& batch, const TxFragment& fragment) noexcept;
  void finish(Staged& frame) noexcept;

  GuestLink& link_;
  const GrantPages& pages_;
  VifState& state_;
  TxBackRing ring_;
  TxChain chain_;
  std::unique_ptr<Staging> staging_;  ///< only for plain grants
  uint32_t staged_next_ = 0;
  uint32_t staged_count_ = 0;
};

}  // namespace synfluid::backend
