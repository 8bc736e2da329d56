#include "spawner/store/permission_sets.h"

#include <algorithm>

namespace synfluid::spawner::store {

uint32_t PermissionSets::hash_of(std::span<const Permission> permissions) const {
  uint64_t hash = permissions.size();
  for (const Permission& permission : permissions) {
    const char bytes[] = {static_cast<char>(permission.domid.value()),
                          static_cast<char>(permission.domid.value() >> 8),
                          static_cast<char>(permission.access)};
    hash = hash_(hash, std::string_view(bytes, sizeof bytes));
  }
  return static_cast<uint32_t>(hash);
}

uint32_t PermissionSets::acquire(std::span<const Permission> permissions) {
  const uint32_t hash = hash_of(permissions);
  uint32_t number = table_.find(hash, [&](uint32_t candidate) {
    return std::ranges::equal(sets_[candidate]->permissions, permissions);
  });
  if (number == SlotTable::kNone) number = make(permissions, hash);
  ++sets_[number]->users;
  return number;
}

uint32_t PermissionSets::make(std::span<const Permission> permissions, uint32_t hash) {
  if (free_.empty()) {
    free_.push_back(static_cast<uint32_t>(sets_.size()));
    sets_.emplace_back();
  }
  const uint32_t number = free_.back();
  free_.pop_back();
  sets_[number] = std::make_unique<Set>();
  sets_[number]->permissions.assign(permissions.begin(), permissions.end());
  sets_[number]->hash = hash;
  table_.insert(hash, number);
  for (const Permission& permission : permissions) naming_[permission.domid].insert(number);
  return number;
}

void PermissionSets::release(uint32_t number) {
  Set& set = *sets_[number];
  if (--set.users > 0) return;
  table_.erase(set.hash, number);
  for (const Permission& permission : set.permissions) {
    const auto naming = naming_.find(permission.domid);
    if (naming == naming_.end()) continue;  // the domain was named twice
    naming->second.erase(number);
    if (naming->second.empty()) naming_.erase(naming);
  }
  sets_[number].reset();
  free_.push_back(number);
}

std::vector<uint32_t> PermissionSets::naming(DomId domid) const {
  const auto found = naming_.find(domid);
  if (found == naming_.end()) return {};
  return {found->second.begin(), found->second.end()};
}

size_t PermissionSets::bytes() const {
  static constexpr size_t kAllocation = 8;
  static constexpr size_t kHashNode = 32 + kAllocation;
  size_t bytes = table_.bytes() + sets_.capacity() * sizeof(sets_[0]) + free_.capacity() * sizeof(uint32_t);
  for (const auto& set : sets_)
    if (set != nullptr)
      bytes += sizeof(Set) + set->permissions.capacity() * sizeof(Permission) + 2 * kAllocation;
  for (const auto& [domid, numbers] : naming_)
    bytes +=
        sizeof(numbers) + kHashNode + numbers.size() * kHashNode + numbers.bucket_count() * sizeof(void*);
  return bytes + naming_.bucket_count() * sizeof(void*);
}

}  // namespace synfluid::spawner::store
