// Numbers found by a hash: open addressing with linear probing, 8 bytes a slot, grown by doubling at 13/16
// full.
//
// It stores a number and 32 bits of its hash; whether a number is the one looked for is asked of the caller.
// Erasing moves later entries back instead of leaving marks, so a table that sees much coming and going stays
// as quick.
//
// Threads: one.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "spawner/store/large_pages.h"

namespace synfluid::spawner::store {

class SlotTable {
 public:
  static constexpr uint32_t kNone = UINT32_MAX;

  SlotTable() : slots_(kFirstSlots) {}

  /// `matches(number)` is called for entries of the same hash. kNone when there is none.
  template <class Matches>
  uint32_t find(uint32_t hash, Matches matches) const {
    for (size_t at = hash & mask();; at = (at + 1) & mask()) {
      const Slot& slot = slots_[at];
      if (slot.number == kNone) return kNone;
      if (slot.hash == hash && matches(slot.number)) return slot.number;
    }
  }

  /// The number is not in the table yet, under this or another hash.
  void insert(uint32_t hash, uint32_t number) {
    if ((used_ + 1) * 16 > slots_.size() * 13) grow();
    place({.hash = hash, .number = number});
    ++used_;
  }

  /// The number is in the table, under this hash.
  void erase(uint32_t hash, uint32_t number) {
    size_t hole = hash & mask();
    while (slots_[hole].number != number) hole = (hole + 1) & mask();
    for (size_t at = (hole + 1) & mask(); slots_[at].number != kNone; at = (at + 1) & mask()) {
      const size_t home = slots_[at].hash & mask();
      if (((at - home) & mask()) < ((at - hole) & mask())) continue;  // its home lies behind the hole
      slots_[hole] = slots_[at];
      hole = at;
    }
    slots_[hole] = {};
    --used_;
  }

  size_t bytes() const { return slots_.capacity() * sizeof(Slot); }

 private:
  struct Slot {
    uint32_t hash = 0;
    uint32_t number = kNone;
  };
  using Slots = std::vector<Slot, LargePageAllocator<Slot>>;
  static constexpr size_t kFirstSlots = 64;

  size_t mask() const { return slots_.size() - 1; }

  void place(Slot slot) {
    size_t at = slot.hash & mask();
    while (slots_[at].number != kNone) at = (at + 1) & mask();
    slots_[at] = slot;
  }

  void grow() {
    Slots old(slots_.size() * 2);
    old.swap(slots_);
    for (const Slot& slot : old)
      if (slot.number != kNone) place(slot);
  }

  Slots slots_;
  size_t used_ = 0;
};

}  // namespace synfluid::spawner::store
