#include "backend/xen/persistent_pages.h"

#include "backend/xen/xen_link.h"

namespace synfluid::backend::xen {

namespace {

/// Half full at the most.
constexpr uint32_t kSlots = 2 * kMaxPersistentPages;
static_assert((kSlots & (kSlots - 1)) == 0);

/// References come in runs; multiplying by 2^32 over the golden ratio spreads them.
uint32_t first_slot(uint32_t gref) {
  return (gref * 0x9e3779b1u) % kSlots;
}

}  // namespace

PersistentPages::PersistentPages(std::shared_ptr<GrantShard> shard, DomId domid)
    : shard_(std::move(shard)), domid_(domid), slots_(kSlots) {
  maps_.reserve(kMaxPersistentPages);
}

std::byte* PersistentPages::find(uint32_t gref) noexcept {
  uint32_t at = first_slot(gref);
  while (slots_[at].page != nullptr && slots_[at].gref != gref) at = (at + 1) % kSlots;
  return slots_[at].page != nullptr ? slots_[at].page : map(gref, slots_[at]);
}

std::byte* PersistentPages::map(uint32_t gref, Slot& slot) noexcept {
  if (maps_.size() == kMaxPersistentPages) return nullptr;
  auto granted = map_grants(shard_, domid_, std::span(&gref, 1));
  if (!granted) return nullptr;
  slot = {gref, granted->bytes().data()};
  maps_.push_back(std::move(*granted));
  return slot.page;
}

}  // namespace synfluid::backend::xen
