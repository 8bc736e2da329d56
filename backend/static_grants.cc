#include "backend/static_grants.h"

#include <bit>
#include <cassert>
#include <random>

namespace synfluid::backend {

namespace {

/// Enough for a front end that changes its pool of buffers now and then.
constexpr uint32_t kFillings = 8;

}  // namespace

GrefHash GrefHash::draw() {
  std::random_device device;
  std::uniform_int_distribution<uint64_t> word;
  return GrefHash({word(device), word(device)});
}

StaticGrants::StaticGrants(ControlLink& link)
    : link_(link),
      places_(link.places()),
      entries_(std::bit_ceil(2 * places_.size()), kEmpty),
      hash_(GrefHash::draw()),
      budget_(kFillings * link.places()) {
  assert(places_.size() < kEmpty);
  free_.reserve(places_.size());
  for (size_t i = places_.size(); i-- > 0;) free_.push_back(static_cast<uint16_t>(i));
}

uint32_t StaticGrants::home_of(uint32_t gref) const noexcept {
  return hash_(gref) & static_cast<uint32_t>(entries_.size() - 1);
}

uint32_t StaticGrants::entry_of(uint32_t gref) const noexcept {
  const auto mask = static_cast<uint32_t>(entries_.size() - 1);
  uint32_t at = home_of(gref);
  while (entries_[at] != kEmpty && places_[entries_[at]].gref != gref) at = (at + 1) & mask;
  return at;
}

std::byte* StaticGrants::find(uint32_t gref, PageAccess access) const noexcept {
  const uint16_t number = entries_[entry_of(gref)];
  if (number == kEmpty) return nullptr;
  const Place& place = places_[number];
  return access == PageAccess::kWrite && place.access == PageAccess::kRead ? nullptr : place.page;
}

bool StaticGrants::add(const abi::NetGref& grant) noexcept {
  if ((grant.flags & ~abi::kGrefReadOnly) != 0) return false;
  const uint32_t entry = entry_of(grant.gref);
  if (entries_[entry] != kEmpty) return false;
  const PageAccess access = grant.flags != 0 ? PageAccess::kRead : PageAccess::kWrite;
  const uint16_t number = free_.back();
  --budget_;
  std::byte* const page = link_.map(number, GrantRef{grant.gref}, access);
  if (page == nullptr) return false;
  free_.pop_back();
  places_[number] = {grant.gref, access, page};
  entries_[entry] = number;
  return true;
}

bool StaticGrants::remove(uint32_t gref) noexcept {
  const uint32_t entry = entry_of(gref);
  const uint16_t number = entries_[entry];
  if (number == kEmpty) return false;
  link_.unmap(number);
  places_[number] = {};
  free_.push_back(number);
  entries_[entry] = kEmpty;
  close_gap(entry);
  return true;
}

/// Moves up what a search would no longer reach across the gap.
void StaticGrants::close_gap(uint32_t gap) noexcept {
  const auto mask = static_cast<uint32_t>(entries_.size() - 1);
  for (uint32_t at = (gap + 1) & mask; entries_[at] != kEmpty; at = (at + 1) & mask) {
    const uint32_t home = home_of(places_[entries_[at]].gref);
    if (((at - home) & mask) < ((at - gap) & mask)) continue;
    entries_[gap] = entries_[at];
    entries_[at] = kEmpty;
    gap = at;
  }
}

}  // namespace synfluid::backend
