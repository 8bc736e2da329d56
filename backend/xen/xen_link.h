// GuestLinks on Xen: persistent grant maps and an event channel.
//
// connect_seeded() is for guests of ours: every page of the shared area is granted under a reference known
// beforehand, all of them are mapped by one call, and the event channel is there before the guest: it binds
// it. connect_foreign() is for front ends that went through xenbus: its rings are mapped at once; buffers are
// mapped as they come (feature-persistent), when its control ring asks for it, or reached by grant copy.
//
// Threads: made by the spawner, then used by the vif's owner, one thread at a time. Ownership: a link owns
// its maps; a foreign guest's its event channel, too. A seeded link borrows its port, which is silenced when
// it goes. Its XenDoorbells must outlive it. Errors: Result; nothing is left mapped or bound on failure.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>

#include "backend/guest_link.h"
#include "backend/xen/grant_mapper.h"
#include "backend/xen/xen_doorbells.h"
#include "backend/xen/xenbus_backend.h"
#include "base/result.h"
#include "base/strong_id.h"

namespace synfluid::backend::xen {

struct SeededLinkConfig {
  DomId domid = {};
  EventPort port = {};  ///< of `doorbells`, open for the domain
  uint32_t pages = 0;   ///< of the shared area (base/abi/card.h), under abi::kFirstGrant + i
  DoorbellToken token = 0;
};

/// A link whose doorbell can still be moved, as long as no worker has it and its guest has not started.
class SeededLink : public GuestLink {
 public:
  /// Rings for `token` by way of `port` of `doorbells` from now on; the guest is told by its card.
  virtual void set_doorbell(XenDoorbells& doorbells, EventPort port, DoorbellToken token) noexcept = 0;
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
  std::optional<ControlRingDetails> control = {};
  DoorbellToken token = 0;
};

/// What a front end may have mapped by its control ring: both rings full.
inline constexpr uint32_t kMaxStaticGrants = 512;

/// A persistent front end may have so many pages mapped beside its rings: both rings full, twice.
inline constexpr uint32_t kMaxPersistentPages = 1024;

Result<std::unique_ptr<GuestLink>> connect_foreign(GrantMapper& mapper, XenDoorbells& doorbells,
                                                   const ForeignLinkConfig& config);

}  // namespace synfluid::backend::xen
