// GuestLinks on Xen: persistent grant maps and an event channel.
//
// connect_seeded() is for guests of ours: every page of the shared area is granted under a reference known
// beforehand, and all of them are mapped by one call. connect_foreign() is for front ends that went through
// xenbus: the two rings are mapped at once; buffers are mapped as they come (feature-persistent) or reached
// by grant copy.
//
// Threads: made by the spawner, then used by the vif's owner, one thread at a time. Ownership: a link owns
// its maps and its event channel; its XenDoorbells must outlive it. Errors: Result; nothing is left mapped or
// bound on failure.
#pragma once

#include <cstdint>
#include <memory>

#include "backend/guest_link.h"
#include "backend/xen/grant_mapper.h"
#include "backend/xen/xen_doorbells.h"
#include "base/result.h"
#include "base/strong_id.h"

namespace synfluid::backend::xen {

struct SeededLinkConfig {
  DomId domid = {};
  EventPort guest_port = {};
  uint32_t pages = 0;  ///< of the shared area (base/abi/card.h), under abi::kFirstGrant + i
  DoorbellToken token = 0;
};

/// A link whose doorbell can still be moved, as long as no worker has it.
class SeededLink : public GuestLink {
 public:
  /// Rings for `token` in `doorbells` from now on. On failure the link has no doorbell: it is of no more use.
  virtual Status set_doorbell(XenDoorbells& doorbells, DoorbellToken token) = 0;
};

Result<std::unique_ptr<SeededLink>> connect_seeded(GrantMapper& mapper, XenDoorbells& doorbells,
                                                   const SeededLinkConfig& config);

struct ForeignLinkConfig {
  DomId domid = {};
  GrantRef tx_ring = {};
  GrantRef rx_ring = {};
  EventPort tx_port = {};
  EventPort rx_port = {};  ///< the same as tx_port unless the front end has split event channels
  bool persistent = false;
  bool receives_chains = false;
  DoorbellToken token = 0;
};

/// A persistent front end may have so many pages mapped beside its rings: both rings full, twice.
inline constexpr uint32_t kMaxPersistentPages = 1024;

Result<std::unique_ptr<GuestLink>> connect_foreign(GrantMapper& mapper, XenDoorbells& doorbells,
                                                   const ForeignLinkConfig& config);

}  // namespace synfluid::backend::xen
