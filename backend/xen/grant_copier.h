// Copies between host memory and pages that one guest grants, in batches of one hypercall.
//
// Threads: the vif's owner. Ownership: shares the gntdev whose maps it needs none of. Errors: a status for
// each piece, as GuestLink::copy() says.
#pragma once

#include <memory>
#include <span>
#include <utility>

#include "backend/guest_link.h"
#include "backend/xen/grant_mapper.h"

namespace synfluid::backend::xen {

class GrantCopier {
 public:
  GrantCopier(std::shared_ptr<GrantShard> shard, DomId domid) : shard_(std::move(shard)), domid_(domid) {}

  void copy(std::span<GrantCopy> batch) const noexcept;

 private:
  void copy_part(std::span<GrantCopy> part) const noexcept;

  std::shared_ptr<GrantShard> shard_;
  DomId domid_;
};

}  // namespace synfluid::backend::xen
