// Each different list of permissions once, however many nodes have it, and the sets that name a domain.
//
// Threads: one. Ownership: owns the sets; a span of permissions holds as long as the set has a user.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "base/strong_id.h"
#include "spawner/store/secret_hash.h"
#include "spawner/store/slot_table.h"
#include "spawner/store/wire.h"

namespace synfluid::spawner::store {

class PermissionSets {
 public:
  static constexpr uint32_t kNoNode = UINT32_MAX;

  struct Set {
    std::vector<Permission> permissions;
    uint32_t users = 0;
    uint32_t hash = 0;
    /// The first of its nodes, which are linked among themselves; the storage keeps it.
    uint32_t first_node = kNoNode;
  };

  /// The number of the set with these permissions, with one user more.
  uint32_t acquire(std::span<const Permission> permissions);
  /// One user less; the last takes the set along.
  void release(uint32_t number);

  Set& operator[](uint32_t number) { return *sets_[number]; }
  const Set& operator[](uint32_t number) const { return *sets_[number]; }

  /// Numbers of the sets in which the domain occurs.
  std::vector<uint32_t> naming(DomId domid) const;

  size_t bytes() const;

 private:
  uint32_t hash_of(std::span<const Permission> permissions) const;
  uint32_t make(std::span<const Permission> permissions, uint32_t hash);

  SecretHash hash_;
  SlotTable table_;
  std::vector<std::unique_ptr<Set>> sets_;
  std::vector<uint32_t> free_;
  std::unordered_map<DomId, std::unordered_set<uint32_t>> naming_;
};

}  // namespace synfluid::spawner::store
