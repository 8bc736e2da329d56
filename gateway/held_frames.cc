#include "gateway/held_frames.h"

namespace synfluid::gateway {

HeldFrames::HeldFrames(uint32_t places) : places_(places) {
  for (uint32_t place = places; place-- > 0;) {
    places_[place].next = free_;
    free_ = place;
  }
}

HeldFrames::~HeldFrames() {
  for (HeldFrame& place : places_) rte_pktmbuf_free(place.frame);
}

uint32_t HeldFrames::append(HeldList& list, rte_mbuf* frame, Side side) noexcept {
  if (free_ == kNone) return kNone;
  const uint32_t place = free_;
  free_ = places_[place].next;
  places_[place] = {.frame = frame, .next = kNone, .side = side};
  (list.tail == kNone ? list.head : places_[list.tail].next) = place;
  list.tail = place;
  ++list.count;
  ++held_;
  return place;
}

HeldFrame HeldFrames::pop(HeldList& list) noexcept {
  const uint32_t place = list.head;
  const HeldFrame taken = places_[place];
  list.head = taken.next;
  if (list.head == kNone) list.tail = kNone;
  --list.count;
  places_[place] = {.frame = nullptr, .next = free_, .side = Side::kAccess};
  free_ = place;
  --held_;
  return taken;
}

}  // namespace synfluid::gateway
