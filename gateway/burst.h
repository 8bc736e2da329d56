// A burst on its way through the stages, as arrays: frame i, what it was parsed to, and its look-up.
#pragma once

#include <algorithm>
#include <array>

#include "base/packet.h"
#include "flowtable/flow_table.h"
#include "gateway/packet_io.h"

namespace synfluid::gateway {

/// Packets that go through a stage together: as many lines can be under way from memory.
inline constexpr size_t kGroup = 16;

/// From packet `begin` up to `end` of a burst.
struct Group {
  size_t begin;
  size_t end;
};

struct Burst {
  Burst() {}  // what lies behind `count` is not looked at, so it is not set

  size_t count = 0;
  std::array<rte_mbuf*, kBurst> frames;
  union {
    std::array<ParsedPacket, kBurst> packets;
  };
  std::array<flowtable::Search, kBurst> searches;
  std::array<uint32_t, kBurst / kGroup> known;  ///< by group: a bit for each packet whose flow may be there
  std::array<Side, kBurst> sides;
  uint32_t version = 0;      ///< the table's, when the searches began
  bool handed_over = false;  ///< it comes from another worker

  /// The packets from `begin` on; none where that is behind the last, or (wrapped around) before the first.
  Group group(size_t begin) const { return {begin, begin < count ? std::min(begin + kGroup, count) : begin}; }
};

}  // namespace synfluid::gateway
