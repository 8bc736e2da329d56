// The memory of a FlowTable: what lies in one bucket. Drawn in flow_table.h.
//
// Plain data of one writer. Every struct's size is pinned: a look-up's cost is the lines it touches.
#pragma once

#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "base/address.h"

namespace synfluid::flowtable {

/// Flows in a bucket: three SSE registers of tags, and the rest of the line for the filter.
inline constexpr uint32_t kSlots = 24;

/// Buckets in which a flow may lie. With 32 the first refusal comes at 94% load or later (README.md), with 16
/// at 90%, and with fewer sooner; it costs only those who go there.
inline constexpr uint32_t kWindow = 32;

/// Different steps from one such bucket to the next: enough to part the ways of those who share a home, and
/// few enough that the lines lie within a page or two.
inline constexpr uint32_t kSteps = 64;

inline constexpr size_t kLine = 64;

enum class FlowState : uint8_t {
  kPending,  ///< a VM has been asked for, packets are held
  kActive,   ///< goes to a VM
  kBypass,   ///< passes between the ports
  kRefused,  ///< policy, or a limit, says no
  kClosing,  ///< FIN or RST seen
  kHandoff,  ///< belongs to another worker
};
inline constexpr size_t kStates = 6;

/// What is kept beside a flow's key, in the same cache line.
struct FlowValue {
  uint32_t target = 0;  ///< the owner's: vif slot, worker
  FlowState state = FlowState::kPending;
  uint8_t flags = 0;       ///< the owner's: flow_flag::*
  uint16_t seen_tick = 0;  ///< the table's own: when the flow was last touched
};

namespace flow_flag {
/// The end that opened the flow is FlowKey::high (FromEnd::kHigh). The other bits are free for the owner.
inline constexpr uint8_t kOpenedByHigh = 0x01;
}  // namespace flow_flag

/// One line per bucket that answers most look-ups. Tag 0 is a free slot. passed[c] counts the flows of filter
/// class c that went past this bucket because it had no room.
struct alignas(kLine) TagLine {
  std::array<uint16_t, kSlots> tags;
  std::array<uint8_t, 16> passed;
};
inline constexpr uint8_t kMostPassed = 255;

/// A flow: the key's lower address halves, ports and VLAN tags, then its value. Two in a line. The upper
/// halves are zero for IPv4, and then they are not looked at: the tag says so.
struct alignas(32) Entry {
  std::array<uint64_t, 3> key_tail;
  FlowValue value;
};

/// The upper address halves of an IPv6 flow.
struct alignas(16) KeyHead {
  std::array<uint64_t, 2> halves;
};

/// Four slots in three lines: one line for an IPv4 flow, two, and next to each other (on one page), for IPv6.
struct alignas(kLine) Quad {
  std::array<Entry, 4> entries;
  std::array<KeyHead, 4> heads;
};

/// A bucket's timers. armed[s] is a tick at or before the one at which slot s expires; `at` is at or before
/// all of them, and is where the bucket hangs in the wheel.
struct alignas(kLine) TimerLine {
  std::array<uint16_t, kSlots> armed;
  uint32_t next;
  uint32_t prev;
  uint16_t at;
  uint16_t linked;  ///< 1: in the wheel
};

static_assert(sizeof(TagLine) == kLine && sizeof(TimerLine) == kLine);
static_assert(sizeof(FlowValue) == 8 && sizeof(Entry) == 32 && sizeof(KeyHead) == 16);
static_assert(sizeof(Quad) == 3 * kLine && kSlots % 4 == 0);

/// A FlowKey as the table sees it: five words.
struct KeyWords {
  uint64_t low_head;
  uint64_t low_tail;
  uint64_t high_head;
  uint64_t high_tail;
  uint64_t ports;

  /// Word by word, so that the compiler keeps them in registers.
  static KeyWords of(const FlowKey& key) noexcept {
    const auto* bytes = reinterpret_cast<const std::byte*>(&key);
    const auto word = [bytes](size_t i) {
      uint64_t w;
      std::memcpy(&w, bytes + i * sizeof w, sizeof w);
      return w;
    };
    return {word(0), word(1), word(2), word(3), word(4)};
  }
  FlowKey to_key() const noexcept { return std::bit_cast<FlowKey>(*this); }
  /// Both upper halves are zero: IPv4, in its mapped form.
  bool is_compact() const noexcept { return (low_head | high_head) == 0; }
};

}  // namespace synfluid::flowtable
