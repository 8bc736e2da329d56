// A burst on its way through the stages, as arrays: frame i, the key that a glance at it gave, and its
// look-up.
#pragma once

#include <algorithm>
#include <array>

#include "base/packet.h"
#include "flowtable/search.h"
#include "gateway/packet_io.h"

namespace synfluid::gateway {

/// Packets that go through a stage together: half a burst, so that memory answers for one half while the
/// other is worked on. Halves of these cost more for their changes from stage to stage than they save
/// (bench/fastpath).
inline constexpr size_t kGroup = 32;

/// From packet `begin` up to `end` of a burst.
struct Group {
  size_t begin;
  size_t end;
};

/// The look-ups of a burst. What lies behind its count is not set.
struct Lookups {
  std::array<flowtable::Search, kBurst> searches;
  uint64_t known = 0;    ///< a bit for each packet whose flow may be there
  uint64_t plain = 0;    ///< a bit for each careless one whose flow, if there, is plain
  uint64_t behind = 0;   ///< a bit for each that is to be settled
  uint32_t version = 0;  ///< the table's, when the searches began

  /// A bit of `careless` for each packet with which all plain flows, and none, are the same.
  void narrow(flowtable::FlowTable& table, Group group, uint64_t careless = 0) noexcept {
    for (size_t begin = group.begin; begin < group.end; begin += flowtable::kBurst) {
      const size_t size = std::min(group.end - begin, flowtable::kBurst);
      const flowtable::Narrowed narrowed =
          table.narrow(std::span(searches).subspan(begin, size), static_cast<uint32_t>(careless >> begin));
      known |= uint64_t{narrowed.known} << begin;
      plain |= uint64_t{narrowed.plain} << begin;
      behind |= uint64_t{narrowed.behind} << begin;
    }
  }
  void settle(flowtable::FlowTable& table, Group group, uint64_t careless = 0) noexcept {
    for (size_t begin = group.begin; begin < group.end; begin += flowtable::kBurst) {
      const size_t size = std::min(group.end - begin, flowtable::kBurst);
      flowtable::Narrowed narrowed{.behind = static_cast<uint32_t>(behind >> begin) &
                                             static_cast<uint32_t>((uint64_t{1} << size) - 1)};
      table.settle(std::span(searches).subspan(begin, size), narrowed,
                   static_cast<uint32_t>(careless >> begin));
      known |= uint64_t{narrowed.known} << begin;
      plain |= uint64_t{narrowed.plain} << begin;
    }
  }
  /// `now` is the table's version: a SYN earlier in the burst may have made an entry, a reset may have
  /// removed one.
  SYNFLUID_INLINE flowtable::FlowIndex find(const flowtable::FlowTable& table, uint32_t now, size_t i,
                                            const flowtable::KeyWords& words) const noexcept {
    if (now != version) return table.find(words);
    if ((known >> i & 1) == 0) return flowtable::kNoFlow;
    return table.finish(searches[i], words);
  }
};
static_assert(kBurst <= 64);

struct Burst {
  Burst() {}  // leaves the arrays as they are

  size_t count = 0;
  std::array<rte_mbuf*, kBurst> frames;
  std::array<Side, kBurst> sides;
  Lookups lookups;
  uint64_t goes_on = 0;      ///< a bit for each TCP packet that neither begins nor ends a connection
  bool handed_over = false;  ///< it comes from another worker

  /// The packets from `begin` on; none where that is behind the last, or (wrapped around) before the first.
  Group group(size_t begin) const { return {begin, begin < count ? std::min(begin + kGroup, count) : begin}; }
};

/// Frames of one VM: each is parsed, for the guard, when it comes.
struct VmBurst {
  VmBurst() {}

  size_t count = 0;
  std::array<rte_mbuf*, kBurst> frames;
  union {
    std::array<ParsedPacket, kBurst> packets;
  };
  Lookups lookups;
};

}  // namespace synfluid::gateway
