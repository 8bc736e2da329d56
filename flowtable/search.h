// The steps of a look-up, inline in the loop of whoever looks up. FlowTable::seek() in flow_table.h says what
// they are for; the table's own lookup() and insert() are made of the same parts.
#pragma once

#include <bit>

#include "flowtable/flow_table.h"
#include "flowtable/tag_match.h"

namespace synfluid::flowtable {

/// To the second-level cache: it can wait for more lines at a time than the first, and a burst needs them all
/// at once (27 against 20 ns a hit in the bench). Always inline: GCC 12 takes a function that only prefetches
/// for one without effect, and drops the calls.
SYNFLUID_INLINE void prefetch(const void* at) {
  constexpr int kForRead = 0;
  constexpr int kSecondLevel = 2;
  __builtin_prefetch(at, kForRead, kSecondLevel);
}

/// Of a mask of slots or of searches that is not empty.
inline uint32_t lowest(uint64_t mask) {
  return static_cast<uint32_t>(std::countr_zero(mask));
}

SYNFLUID_INLINE uint64_t FlowTable::home_of(uint64_t hash) const noexcept {
  return static_cast<uint64_t>(static_cast<Wide>(hash) * buckets_ >> 64);
}

SYNFLUID_INLINE Probe FlowTable::probe(const KeyWords& words) const noexcept {
  const uint64_t hash = hash_(words);
  return Probe::of(hash, home_of(hash));
}

SYNFLUID_INLINE uint32_t FlowTable::behind(uint32_t bucket, const Probe& at) const noexcept {
  bucket += (at.bits >> 16 & step_mask_) + 1;
  return bucket >= buckets_ ? bucket - buckets_ : bucket;
}

SYNFLUID_INLINE bool FlowTable::holds(const Place& place, const KeyWords& words) noexcept {
  const AddressWords& low = place.low();
  const AddressWords& high = place.high();
  return ((low.head ^ words.low_head) | (low.tail ^ words.low_tail) | (high.head ^ words.high_head) |
          (high.tail ^ words.high_tail) | (place.rest().ports ^ words.ports)) == 0;
}

/// The lines that holds() will read, and the owner after it.
SYNFLUID_INLINE void FlowTable::prefetch_place(const Place& place) noexcept {
  prefetch(&place.low());
  if (place.is_whole()) return;
  prefetch(&place.high());
  prefetch(&place.rest());
}

SYNFLUID_INLINE Probe FlowTable::seek(const KeyWords& words) const noexcept {
  const uint64_t hash = hash_(words);
  const uint64_t home = home_of(hash);
  prefetch(&tags_[home]);
  return Probe::of(hash, home);
}

SYNFLUID_INLINE Probe FlowTable::seek_carelessly(const KeyWords& words) const noexcept {
  return seek_carelessly(hash_(words));
}

SYNFLUID_INLINE Probe FlowTable::seek_carelessly(const plain_ipv4::Flow& flow) const noexcept {
  return seek_carelessly(hash_(flow));
}

SYNFLUID_INLINE Probe FlowTable::seek_carelessly(uint64_t hash) const noexcept {
  const uint64_t home = home_of(hash);
  prefetch(&short_tags_[home]);
  return Probe::of(hash, home);
}

/// What is rare (a tag that deceived) is looked for alone.
SYNFLUID_INLINE FlowIndex FlowTable::finish(const Search& search, const KeyWords& words) const noexcept {
  if (!holds(search.place, words)) return find(words);
  return search.at.home * kSlots + search.slot;
}

}  // namespace synfluid::flowtable
