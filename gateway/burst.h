// A burst on its way through the stages, as arrays: frame i, the key that a glance at it gave, and its
// look-up.
#pragma once

#include <algorithm>
#include <array>

#include "base/packet.h"
#include "flowtable/search.h"
#include "gateway/packet_io.h"

namespace synfluid::gateway {

/// Packets that go through a stage together: memory answers for one group while others are worked on. Smaller
/// ones cost more for their changes from stage to stage than they save; with one of a whole burst there is
/// nothing to do while the lines behind home come (bench/fastpath).
inline constexpr size_t kGroup = 32;
constexpr size_t groups_of(size_t packets) {
  return (packets + kGroup - 1) / kGroup;
}

static_assert(kGroup <= flowtable::kBurst && kBurst % kGroup == 0);
inline constexpr size_t kGroups = kBurst / kGroup;

/// The look-ups of a burst, by groups. What lies behind its count is not set.
struct Lookups {
  std::array<flowtable::Search, kBurst> searches;
  std::array<flowtable::Narrowed, kGroups> narrowed;
  uint32_t version = 0;  ///< the table's, when the searches began

  /// Group `group` of `count` packets. `careless` are those with which all plain flows, and none, are the
  /// same.
  void narrow(flowtable::FlowTable& table, size_t group, size_t count,
              flowtable::SearchMask careless = 0) noexcept {
    narrowed[group] = table.narrow(searches_of(group, count), careless);
  }
  void settle(flowtable::FlowTable& table, size_t group, size_t count,
              flowtable::SearchMask careless = 0) noexcept {
    table.settle(searches_of(group, count), narrowed[group], careless);
  }
  /// `now` is the table's version: a SYN earlier in the burst may have made an entry, a reset may have
  /// removed one.
  SYNFLUID_INLINE flowtable::FlowIndex find(const flowtable::FlowTable& table, uint32_t now, size_t i,
                                            const flowtable::KeyWords& words) const noexcept {
    if (now != version) return table.find(words);
    if ((narrowed[i / kGroup].known >> i % kGroup & 1) == 0) return flowtable::kNoFlow;
    return table.finish(searches[i], words);
  }

 private:
  std::span<flowtable::Search> searches_of(size_t group, size_t count) noexcept {
    const size_t begin = group * kGroup;
    return std::span(searches).subspan(begin, std::min(count - begin, kGroup));
  }
};

struct Burst {
  Burst() {}  // leaves the arrays as they are

  size_t count = 0;
  bool handed_over = false;  ///< they come from other workers, and from either side
  std::array<rte_mbuf*, kBurst> frames;
  std::array<Side, kBurst> sides;
  Lookups lookups;
  /// By group: of each packet that, if it is TCP, neither begins nor ends a connection.
  std::array<flowtable::SearchMask, kGroups> goes_on;

  size_t groups() const { return groups_of(count); }
  size_t end_of(size_t group) const { return std::min(count, (group + 1) * kGroup); }
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
