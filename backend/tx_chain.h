// One frame as the guest's transmit ring describes it: parsed from the ring's slots, checked, not yet copied.
//
//     slot 0                 request: size of the whole frame, flags
//     slot 1 .. extras       extra info, if slot 0 has NETTXF_extra_info, chained by its own flag
//     then                   one request a fragment, as long as the one before (slot 0 first) has
//     NETTXF_more_data
//
// The size of the first fragment is the whole size less that of the others. Every slot is read once.
// Private to backend/. Protocol: Xen public header xen/io/netif.h, "Guest transmit".
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

#include "backend/ring.h"
#include "base/abi/netif.h"

namespace synfluid::backend {

/// The least number of slots a frame may take that a back end must handle (XEN_NETIF_NR_SLOTS_MIN): 64 KiB
/// and its misalignments. We take no more either.
inline constexpr uint32_t kMaxFragments = 18;

/// Kinds of extra info (netif.h XEN_NETIF_EXTRA_TYPE_*) and its flag.
enum class ExtraType : uint8_t { kNone = 0, kGso = 1, kMulticastAdd = 2, kMulticastDelete = 3, kHash = 4 };
inline constexpr uint8_t kExtraFlagMore = 1;

struct TxFragment {
  uint32_t gref;
  uint16_t offset;
  uint16_t length;
};

struct TxChain {
  enum class Kind : uint8_t {
    kFrame,       ///< to be copied and taken
    kControl,     ///< carries no frame: to be answered and forgotten
    kBad,         ///< to be answered with an error
    kIncomplete,  ///< the front end published the head of a frame without its end
  };
  Kind kind = Kind::kFrame;
  bool checksum_blank = false;
  uint16_t slots = 0;
  uint16_t extras = 0;
  uint16_t fragments = 0;
  uint16_t bytes = 0;
  std::array<TxFragment, kMaxFragments> fragment;
  std::array<uint16_t, abi::kRingSlots> id;  ///< of each slot, to answer it
};

/// Reads the frame at the head of the ring. Precondition: 0 < available <= kRingSlots. Consumes nothing.
void read_tx_chain(const TxBackRing& ring, uint32_t available, uint32_t max_bytes, TxChain& out) noexcept;

/// What the ring is told of slot `index` of a chain.
constexpr abi::NetTxResponse tx_response(uint16_t id, bool is_extra, int16_t status) {
  return is_extra ? abi::NetTxResponse{0, abi::kRspNull} : abi::NetTxResponse{id, status};
}

}  // namespace synfluid::backend
