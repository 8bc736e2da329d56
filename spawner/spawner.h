// The spawner: gives every service flow its VM, and takes it back.
//
// One thread of its own runs the life cycle (requested, building, running, draining, gone). Workers talk to it by two
// bounded lock-free rings each: requests in, replies out; neither side ever waits for the other.
//
//     worker                        spawner thread
//       SYN, admitted                 │
//       SpawnRequest ───────────────▶ pool, or build; first frame into the vif; start
//       SpawnReply (with the Vif) ◀── │
//       ... owns and switches the vif │
//       VmReturn (with the Vif) ────▶ teardown: unmap, destroy
//       VmLost ◀───────────────────── the guest died; the worker answers with VmReturn
//
// Scope: `flow` makes a VM for each request; `subscriber` and `service` share one, which belongs to the worker that
// asked first: a later request from another worker is answered with kElsewhere and the owner's number.
// Ownership: `first_frame` stays the worker's and must stay valid until the reply; a Vif travels by unique_ptr.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "backend/vif.h"
#include "base/address.h"
#include "base/clock.h"
#include "base/result.h"
#include "base/strong_id.h"
#include "policies/policy.h"
#include "spawner/hypervisor.h"

namespace synfluid::spawner {

struct SpawnRequest {
  uint64_t cookie = 0;  ///< the worker's own name for this request, given back in the reply
  uint16_t service = 0; ///< index into the policy's services
  FlowKey flow;
  Address subscriber;
  backend::DoorbellToken doorbell = 0;     ///< the vif slot that the worker has set aside
  std::span<const std::byte> first_frame;  ///< the SYN
  int64_t syn_time_ns = 0;
};

enum class SpawnOutcome : uint8_t {
  kServed,     ///< a new VM: `vif` is the worker's now; the first frame is in it already
  kShared,     ///< the scope has a VM and this worker owns it: see `vm`; the first frame was not sent
  kElsewhere,  ///< the scope has a VM that worker `owner` owns
  kFailed,     ///< no VM: `error` says why; the flow follows on_failure
};

struct SpawnReply {
  uint64_t cookie = 0;
  SpawnOutcome outcome = SpawnOutcome::kFailed;
  VmId vm;
  WorkerId owner;
  bool pooled = false;
  int64_t create_ns = 0;  ///< time spent building; 0 when pooled
  backend::DoorbellToken doorbell = 0;
  std::unique_ptr<backend::Vif> vif;
  std::string error;
};

enum class SpawnerNotice : uint8_t { kCrashed, kExited };

struct VmLost {
  VmId vm;
  backend::DoorbellToken doorbell = 0;
  SpawnerNotice notice = SpawnerNotice::kCrashed;
};

/// The worker has no flow left for this VM (or lost it): the spawner takes it down.
struct VmReturn {
  VmId vm;
  std::unique_ptr<backend::Vif> vif;
};

}  // namespace synfluid::spawner
