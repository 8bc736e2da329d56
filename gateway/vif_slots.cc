#include "gateway/vif_slots.h"

#include <algorithm>

namespace synfluid::gateway {

VifSlots::VifSlots(uint32_t slots) : slots_(slots), free_ring_(slots), free_count_(slots) {
  for (uint32_t slot = 0; slot < slots; ++slot) free_ring_[slot] = slot;
  busy_.reserve(slots);
}

uint32_t VifSlots::reserve() noexcept {
  if (free_count_ == 0) return kNone;
  const uint32_t slot = free_ring_[free_head_];
  free_head_ = (free_head_ + 1) % free_ring_.size();
  --free_count_;
  slots_[slot] = VifSlot{};
  slots_[slot].state = VifSlot::State::kReserved;
  return slot;
}

void VifSlots::free(uint32_t slot) noexcept {
  slots_[slot].state = VifSlot::State::kFree;
  free_ring_[(free_head_ + free_count_) % free_ring_.size()] = slot;
  ++free_count_;
}

void VifSlots::set_busy(uint32_t slot) noexcept {
  slots_[slot].quiet_polls = 0;
  if (slots_[slot].busy) return;
  slots_[slot].busy = true;
  busy_.push_back(slot);
}

void VifSlots::set_quiet(uint32_t slot) noexcept {
  if (!slots_[slot].busy) return;
  slots_[slot].busy = false;
  // Few are busy at once, and they fall quiet one at a time.
  const auto it = std::ranges::find(busy_, slot);
  *it = busy_.back();
  busy_.pop_back();
}

}  // namespace synfluid::gateway
