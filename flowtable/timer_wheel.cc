#include "flowtable/timer_wheel.h"

#include <algorithm>
#include <bit>

namespace synfluid::flowtable {

namespace {

/// Set in TimerLine::prev of the first bucket at a place: the other bits are the place.
constexpr uint32_t kIsPlace = 0x80000000;
constexpr uint32_t kFewestPlaces = 64;
constexpr uint64_t kNothing = ~uint64_t{0};

uint32_t places_for(uint32_t longest_idle) {
  return std::max(kFewestPlaces, std::bit_ceil(longest_idle + 2));
}

}  // namespace

TimerWheel::TimerWheel(TimerLine* lines, int64_t start_ns, int64_t tick_ns, uint32_t longest_idle)
    : lines_(lines),
      tick_ns_(tick_ns),
      mask_(places_for(longest_idle) - 1),
      start_ns_(start_ns),
      heads_(mask_ + 1, kNoBucket),
      occupied_((mask_ + 1) / 64, 0),
      tick_starts_ns_(start_ns),
      stamped_ns_(start_ns) {}

void TimerWheel::restamp(int64_t now_ns) noexcept {
  stamped_ns_ = now_ns;
  const uint64_t since = static_cast<uint64_t>(std::max<int64_t>(now_ns - start_ns_, 0));
  const uint64_t whole = (since + static_cast<uint64_t>(tick_ns_) - 1) / static_cast<uint64_t>(tick_ns_);
  stamp_ = static_cast<uint16_t>(std::min(whole, tick_ + kMaxIdleTicks + 1));
}

/// Between the tick that is being worked on and the last place of the turn.
uint16_t TimerWheel::clamp(uint16_t due) const noexcept {
  if (tick_before(due, tick())) return tick();
  const uint16_t ahead = static_cast<uint16_t>(due - tick());
  return static_cast<uint16_t>(tick() + std::min<uint32_t>(ahead, mask_));
}

void TimerWheel::arm(uint32_t bucket, uint32_t slot, uint16_t due) noexcept {
  TimerLine& line = lines_[bucket];
  const uint16_t at = clamp(due);
  line.armed[slot] = at;
  if (line.linked != 0 && !tick_before(at, line.at)) return;
  unhang(bucket);
  hang(bucket, at);
}

/// The tick that `now_ns` lies in. Moves the start if the wheel would fall too far behind it.
uint64_t TimerWheel::last_tick(int64_t now_ns) noexcept {
  const uint64_t last = static_cast<uint64_t>(now_ns - start_ns_) / static_cast<uint64_t>(tick_ns_);
  if (last <= tick_ + kMaxIdleTicks) return last;
  start_ns_ += static_cast<int64_t>(last - tick_ - kMaxIdleTicks) * tick_ns_;
  return tick_ + kMaxIdleTicks;
}

uint32_t TimerWheel::next_due(int64_t now_ns) noexcept {
  if (now_ns < tick_starts_ns_) return kNoBucket;
  const uint64_t last = last_tick(now_ns);
  const uint64_t found = next_occupied(tick_, std::min(last, tick_ + mask_));
  tick_ = std::min(found, last + 1);
  tick_starts_ns_ = start_ns_ + static_cast<int64_t>(tick_) * tick_ns_;
  return found == kNothing ? kNoBucket : heads_[tick_ & mask_];
}

/// The first tick from `from` to `to` at whose place something hangs.
uint64_t TimerWheel::next_occupied(uint64_t from, uint64_t to) const noexcept {
  while (from <= to) {
    const uint64_t place = from & mask_;
    const uint64_t word = occupied_[place / 64] >> (place % 64);
    if (word != 0) {
      from += static_cast<uint64_t>(std::countr_zero(word));
      return from <= to ? from : kNothing;
    }
    from += 64 - place % 64;
  }
  return kNothing;
}

void TimerWheel::rehang(uint32_t bucket, uint16_t ahead) noexcept {
  unhang(bucket);
  if (ahead != kNoTimer) hang(bucket, clamp(static_cast<uint16_t>(tick() + ahead)));
}

void TimerWheel::hang(uint32_t bucket, uint16_t at) noexcept {
  const uint32_t place = at & mask_;
  TimerLine& line = lines_[bucket];
  line.at = at;
  line.linked = 1;
  line.prev = kIsPlace | place;
  line.next = heads_[place];
  if (line.next != kNoBucket) lines_[line.next].prev = bucket;
  heads_[place] = bucket;
  occupied_[place / 64] |= uint64_t{1} << (place % 64);
}

void TimerWheel::unhang(uint32_t bucket) noexcept {
  TimerLine& line = lines_[bucket];
  if (line.linked == 0) return;
  line.linked = 0;
  if (line.next != kNoBucket) lines_[line.next].prev = line.prev;
  if ((line.prev & kIsPlace) == 0) {
    lines_[line.prev].next = line.next;
    return;
  }
  const uint32_t place = line.prev & ~kIsPlace;
  heads_[place] = line.next;
  if (line.next == kNoBucket) occupied_[place / 64] &= ~(uint64_t{1} << (place % 64));
}

}  // namespace synfluid::flowtable
