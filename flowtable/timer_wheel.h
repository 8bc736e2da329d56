// A timing wheel of buckets: each hangs at the earliest deadline of its slots.
//
// Ticks are 16 bits wide and compared modulo 2^16. Three bounds make that safe: an idle time is at most
// kMaxIdleTicks; a stamp is at most kMaxIdleTicks ahead of the tick the wheel has reached, however late the
// owner calls; nothing hangs further ahead than one turn of the wheel (a bucket visited before its time is
// hung up again).
//
// Threads: the owner's only. Ownership: the bucket lines belong to the table. Units: ticks since the start.
// Source: Varghese and Lauck, "Hashed and Hierarchical Timing Wheels" (1987), scheme 6, with lazy deadlines.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "flowtable/layout.h"

namespace synfluid::flowtable {

inline constexpr uint32_t kMaxIdleTicks = 16383;
inline constexpr uint32_t kNoBucket = 0xffffffff;

/// a comes before b, both within half a turn of 16 bits.
constexpr bool tick_before(uint16_t a, uint16_t b) {
  return static_cast<int16_t>(static_cast<uint16_t>(a - b)) < 0;
}

/// From ticks_to_earliest(): no slot holds a flow.
inline constexpr uint16_t kNoTimer = 0xffff;

/// Ticks from `tick` to `armed`; 0 if that is over. Below 2^15.
constexpr uint16_t ticks_ahead(uint16_t armed, uint16_t tick) {
  const int16_t ahead = static_cast<int16_t>(static_cast<uint16_t>(armed - tick));
  return static_cast<uint16_t>(ahead > 0 ? ahead : 0);
}

/// Of the slots in `taken`, those that are armed for `tick` or before: a bit each.
inline uint32_t due_slots(const TimerLine& line, uint32_t taken, uint16_t tick) noexcept {
  uint32_t mask = 0;
  for (uint32_t s = 0; s < kSlots; ++s)
    mask |= static_cast<uint32_t>(ticks_ahead(line.armed[s], tick) == 0) << s;
  return mask & taken;
}

/// Over the slots in `taken`. No branches, eight slots at a time: a compiler makes a few vector instructions
/// of it.
inline uint16_t ticks_to_earliest(const TimerLine& line, uint32_t taken, uint16_t tick) noexcept {
  constexpr uint32_t kLanes = 8;
  constexpr std::array<uint16_t, kLanes> kBits{1, 2, 4, 8, 16, 32, 64, 128};
  uint16_t least = kNoTimer;
  for (uint32_t first = 0; first < kSlots; first += kLanes) {
    const uint16_t some = static_cast<uint16_t>(taken >> first);
    for (uint32_t s = 0; s < kLanes; ++s) {
      const uint16_t ahead = (some & kBits[s]) == 0 ? kNoTimer : ticks_ahead(line.armed[first + s], tick);
      least = std::min(least, ahead);
    }
  }
  return least;
}

class TimerWheel {
 public:
  /// `longest_idle` in ticks sets the number of places on the wheel. `lines` outlive it.
  TimerWheel(TimerLine* lines, int64_t start_ns, int64_t tick_ns, uint32_t longest_idle);

  /// The tick that something done at `now_ns` is booked under: the next whole one, so that nothing expires
  /// early.
  uint16_t stamp(int64_t now_ns) noexcept {
    if (now_ns != stamped_ns_) restamp(now_ns);
    return stamp_;
  }

  /// Slot `slot` of `bucket` is to be looked at by tick `due` at the latest.
  void arm(uint32_t bucket, uint32_t slot, uint16_t due) noexcept;

  /// Moves on to `now_ns`, and stops at the first tick with a bucket that is due. kNoBucket: there is none.
  uint32_t next_due(int64_t now_ns) noexcept;
  /// The tick that next_due() stopped at.
  uint16_t tick() const noexcept { return static_cast<uint16_t>(tick_); }
  /// As arm(), for the bucket that next_due() returned and that rehang() will be called for.
  void arm_visited(uint32_t bucket, uint32_t slot, uint16_t due) noexcept {
    lines_[bucket].armed[slot] = clamp(due);
  }
  /// Hangs a bucket that was visited that far ahead, or takes it off if that is kNoTimer.
  void rehang(uint32_t bucket, uint16_t ahead) noexcept;
  /// The bucket that next_due() would return after this one.
  void prefetch_next(uint32_t bucket) const noexcept {
    if (lines_[bucket].next != kNoBucket) __builtin_prefetch(&lines_[lines_[bucket].next]);
  }

  TimerLine& line(uint32_t bucket) const noexcept { return lines_[bucket]; }
  size_t memory_bytes() const noexcept {
    return heads_.size() * sizeof heads_[0] + occupied_.size() * sizeof occupied_[0];
  }

 private:
  void restamp(int64_t now_ns) noexcept;
  uint16_t clamp(uint16_t due) const noexcept;
  void hang(uint32_t bucket, uint16_t at) noexcept;
  void unhang(uint32_t bucket) noexcept;
  uint64_t last_tick(int64_t now_ns) noexcept;
  uint64_t next_occupied(uint64_t from, uint64_t to) const noexcept;

  TimerLine* const lines_;
  const int64_t tick_ns_;
  const uint32_t mask_;
  int64_t start_ns_;
  std::vector<uint32_t> heads_;
  std::vector<uint64_t> occupied_;  ///< a bit per place: empty ones are passed over 64 at a time
  uint64_t tick_ = 0;               ///< all before it are done
  int64_t tick_starts_ns_;          ///< when tick_ begins
  int64_t stamped_ns_;
  uint16_t stamp_ = 0;
};

}  // namespace synfluid::flowtable
