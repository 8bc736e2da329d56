// A burst on its way through the stages, as arrays: frame i, the key that a glance at it gave, and its
// look-up.
#pragma once

#include <algorithm>
#include <array>

#include "base/packet.h"
#include "flowtable/search.h"
#include "gateway/packet_io.h"

namespace synfluid::gateway {

/// Packets that go through a stage together: as many lines can be under way from memory. Groups of 8, as far
/// apart, are slower where the table is large (bench/fastpath, 10 M flows).
inline constexpr size_t kGroup = 16;

/// From packet `begin` up to `end` of a burst.
struct Group {
  size_t begin;
  size_t end;
};

/// The look-ups of a burst. What lies behind its count is not set.
struct Lookups {
  std::array<flowtable::KeyWords, kBurst> keys;
  std::array<flowtable::Search, kBurst> searches;
  uint64_t known = 0;    ///< a bit for each packet whose flow may be there
  uint32_t version = 0;  ///< the table's, when the searches began

  void seek(const flowtable::FlowTable& table, size_t i, const flowtable::KeyWords& words) noexcept {
    // Word by word: a copy of the whole would wait for its own stores.
    keys[i].low_head = words.low_head;
    keys[i].low_tail = words.low_tail;
    keys[i].high_head = words.high_head;
    keys[i].high_tail = words.high_tail;
    keys[i].ports = words.ports;
    searches[i].at = table.seek(words);
  }
  void narrow(const flowtable::FlowTable& table, Group group) noexcept {
    for (size_t begin = group.begin; begin < group.end; begin += flowtable::kBurst) {
      const size_t size = std::min(group.end - begin, flowtable::kBurst);
      known |= uint64_t{table.narrow(std::span(searches).subspan(begin, size))} << begin;
    }
  }
  /// `now` is the table's version: a SYN earlier in the burst may have made an entry, a reset may have
  /// removed one.
  SYNFLUID_INLINE flowtable::Found find(flowtable::FlowTable& table, uint32_t now, size_t i) const noexcept {
    if (now != version) return table.find_value(keys[i]);
    if ((known >> i & 1) == 0) return {};
    return table.finish(searches[i], keys[i]);
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
