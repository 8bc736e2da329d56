// A burst on its way through the stages, as arrays: frame i, the key that a glance at it gave, and its
// look-up.
#pragma once

#include <array>
#include <span>

#include "base/packet.h"
#include "flowtable/search.h"
#include "gateway/packet_io.h"

namespace synfluid::gateway {

static_assert(kBurst <= flowtable::kBurst);

/// The look-ups of a burst. What lies behind its count is not set.
struct Lookups {
  std::array<flowtable::Search, kBurst> searches;
  flowtable::Narrowed narrowed;
  uint32_t version = 0;  ///< the table's, when tags were compared

  /// Of the first `count` packets; `now` is the table's version. `careless` are those with which all plain
  /// flows, and none, are the same.
  void narrow(flowtable::FlowTable& table, uint32_t now, size_t count,
              flowtable::SearchMask careless = 0) noexcept {
    version = now;
    narrowed = table.narrow(std::span(searches).first(count), careless);
  }
  void settle(flowtable::FlowTable& table, size_t count, flowtable::SearchMask careless = 0) noexcept {
    table.settle(std::span(searches).first(count), narrowed, careless);
  }
  /// `now` is the table's version: a SYN earlier in the burst may have made an entry, a reset may have
  /// removed one.
  SYNFLUID_INLINE flowtable::FlowIndex find(const flowtable::FlowTable& table, uint32_t now, size_t i,
                                            const flowtable::KeyWords& words) const noexcept {
    if (now != version) return table.find(words);
    if ((narrowed.known >> i & 1) == 0) return flowtable::kNoFlow;
    return table.finish(searches[i], words);
  }
};

struct Burst {
  Burst() {}  // leaves the arrays as they are

  size_t count = 0;
  bool handed_over = false;  ///< they come from other workers, and from either side
  std::array<rte_mbuf*, kBurst> frames;
  std::array<Side, kBurst> sides;
  Lookups lookups;
  /// Of each packet that, if it is TCP, neither begins nor ends a connection.
  flowtable::SearchMask goes_on = 0;
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
