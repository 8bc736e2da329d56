// The pages that one front end keeps granted to us: grant reference to mapped page.
//
// A fixed table with open addressing: found in a few probes, no allocation once it is made, never more than
// kMaxPersistentPages entries however many references a front end makes up.
//
// Threads: the vif's owner. Ownership: owns the maps.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "backend/xen/grant_mapper.h"

namespace synfluid::backend::xen {

class PersistentPages {
 public:
  PersistentPages(std::shared_ptr<GrantShard> shard, DomId domid);

  /// Maps at the first use. nullptr if the grant is not given, or too many are mapped.
  std::byte* find(uint32_t gref) noexcept;

 private:
  struct Slot {
    uint32_t gref = 0;
    std::byte* page = nullptr;
  };

  std::byte* map(uint32_t gref, Slot& slot) noexcept;

  std::shared_ptr<GrantShard> shard_;
  DomId domid_;
  std::vector<Slot> slots_;
  std::vector<GrantMap> maps_;
};

}  // namespace synfluid::backend::xen
