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
inline constexpr uint32_t kAllSlots = (1u << kSlots) - 1;

/// Buckets in which a flow may lie. With 32 the first refusal comes at 95% load or later, with 16 at 90%, and
/// with fewer sooner; it costs only those who go there.
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
/// The owner treats the packets of all plain flows alike, and as those of a flow that is not there. Given at
/// insert() and not changed.
inline constexpr uint8_t kPlain = 0x02;
}  // namespace flow_flag

/// In every tag, so that none is 0: a free slot.
inline constexpr uint16_t kTaken = 0x8000;

/// By a flow's filter class its bucket tells whether a look-up has to go on behind it.
inline constexpr uint32_t kClasses = 16;

/// Flows of one filter class that can be counted past a bucket.
inline constexpr uint32_t kMostPassed = 15;

/// One line per bucket that answers most look-ups.
struct alignas(kLine) TagLine {
  std::array<uint16_t, kSlots> tags;
  uint64_t passed;  ///< 4 bits by filter class: flows that went past this bucket because it had no room
};

/// What a careless look-up needs to know of a bucket, in half a line: so that the buckets of a million flows
/// fit a core's second-level cache. Of each tag only the lower half; a free slot's means nothing.
struct alignas(kLine / 2) ShortTags {
  static constexpr uint32_t kPassedAt = kSlots;
  static constexpr uint32_t kPlainAt = kPassedAt + kClasses;

  std::array<uint8_t, kSlots> tags;
  /// From the lowest bit: unseen by slot; passed by filter class, whether by any flow; plain by slot.
  uint64_t marks;

  /// Flows that are not plain (flow_flag::kPlain), or were not touched since their timer last looked.
  uint32_t unseen() const noexcept { return static_cast<uint32_t>(marks) & kAllSlots; }
  uint32_t plain() const noexcept { return static_cast<uint32_t>(marks >> kPlainAt); }
  uint32_t taken() const noexcept { return unseen() | plain(); }
  bool is_seen(uint32_t slot) const noexcept { return ((plain() & ~unseen()) >> slot & 1) != 0; }

  /// All of `slots` are plain.
  void see(uint32_t slots) noexcept { marks &= ~uint64_t{slots}; }
  void forget_seen(uint32_t slot) noexcept { marks |= uint64_t{1} << slot; }
  void take(uint32_t slot, uint8_t tag, bool plain) noexcept {
    tags[slot] = tag;
    marks |= (1 | uint64_t{plain} << kPlainAt) << slot;
  }
  void free(uint32_t slot) noexcept { marks &= ~((1 | uint64_t{1} << kPlainAt) << slot); }
};
static_assert(ShortTags::kPlainAt + kSlots == 64);

struct AddressWords {
  uint64_t head;
  uint64_t tail;
};
struct PortsAndValue {
  uint64_t ports;  ///< and VLAN tags
  FlowValue value;
};

/// Of a bucket's slots, those whose flow has a line of its own. They are given out first, and at 80% load
/// hold nine flows of ten.
inline constexpr uint32_t kWholeSlots = 18;

/// Where a slot's flow lies: three pieces of 16 bytes, `step` apart. A flow needs 48 bytes, a line has 64: so
/// four flows share three lines, one whole in each, and the fourth in what these leave over.
class Place {
 public:
  Place() noexcept = default;  ///< nowhere
  Place(std::byte* rows, uint32_t bucket, uint32_t slot) noexcept
      : base_(rows + size_t{bucket} * kWholeSlots * kLine + kShapes[slot].offset),
        step_(kShapes[slot].step) {}

  AddressWords& low() const noexcept { return *reinterpret_cast<AddressWords*>(base_); }
  AddressWords& high() const noexcept { return *reinterpret_cast<AddressWords*>(base_ + step_); }
  PortsAndValue& rest() const noexcept { return *reinterpret_cast<PortsAndValue*>(base_ + 2 * step_); }
  bool is_whole() const noexcept { return step_ == kPiece; }

 private:
  static constexpr size_t kPiece = 16;

  /// Looked up, not computed: a branch between the two kinds would be guessed wrong for one flow of ten.
  struct Shape {
    uint16_t offset;
    uint16_t step;
  };
  static constexpr std::array<Shape, kSlots> kShapes = [] {
    std::array<Shape, kSlots> shapes{};
    for (size_t slot = 0; slot < kWholeSlots; ++slot)
      shapes[slot] = {static_cast<uint16_t>(slot * kLine), kPiece};
    for (size_t slot = kWholeSlots; slot < kSlots; ++slot)
      shapes[slot] = {static_cast<uint16_t>((slot - kWholeSlots) * 3 * kLine + 3 * kPiece), kLine};
    return shapes;
  }();

  std::byte* base_;
  size_t step_;
};
inline constexpr size_t kRowBytes = kWholeSlots * kLine;

/// A bucket's timers. armed[s] is a tick at or before the one at which slot s expires; `at` is at or before
/// all of them, and is where the bucket hangs in the wheel.
struct alignas(kLine) TimerLine {
  std::array<uint16_t, kSlots> armed;
  uint32_t next;
  uint32_t prev;
  uint16_t at;
  uint16_t linked;  ///< 1: in the wheel
};

static_assert(sizeof(ShortTags) == kLine / 2 && sizeof(TagLine) == kLine && sizeof(TimerLine) == kLine);
static_assert(sizeof(AddressWords) == 16 && sizeof(PortsAndValue) == 16);
static_assert(kWholeSlots * 4 == kSlots * 3 && kWholeSlots % 3 == 0);

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
};

}  // namespace synfluid::flowtable
