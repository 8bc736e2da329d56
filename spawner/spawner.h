// The spawner: gives every service flow its VM, and takes it back.
//
// One thread of its own runs the life cycle (requested, building, running, draining, gone). Workers talk to
// it by bounded lock-free rings, a set for each worker (worker_port.h); neither side ever waits for the
// other.
//
//     worker                        spawner thread
//       SYN, admitted                 │
//       SpawnRequest ───────────────▶ pool, or build; first frame into the vif; start
//       SpawnReply (with the Vif) ◀── │
//       ... owns and switches the vif │
//       VmReturn (with the Vif) ────▶ teardown: unmap, destroy
//       VmLost ◀───────────────────── the guest died; the worker answers with VmReturn
//
// Every request gets exactly one reply. A request carries its admission ticket: the spawner keeps it with the
// VM and releases it when the VM is gone, or at once when the request made none.
//
// Scope: `flow` makes a VM for each request; `subscriber` and `service` share one, which belongs to the
// worker that was first given it: a later request from another worker is answered with kElsewhere and the
// owner's number. While such an answer is on its way the owner may give the VM back: it must expect a kShared
// (or packets handed over) for a VM it has just returned, and ask again.
//
// Foreign images (Xen) connect their vif after they have booted. Their requests wait for it up to the
// policy's hold_time and are then answered kFailed; a VM of a shared scope boots on and is there for a later
// SYN.
//
// Policies: prepare() digests the images of a new policy into a ServiceSet, which requests then carry;
// activate() makes it the one whose pools are kept filled. VMs keep the set they were made from. A Spawner
// keeps a set until nobody else has it, and destroys it in its own thread.
//
// Threads: start(), stop() and all of "control" from one control thread; port(w) is worker w's. Hypervisor
// calls are made by the spawner's thread alone, or by the control thread's while the former does not run.
// Ownership: `first_frame` stays the worker's and must stay valid until the reply; a Vif travels by
// unique_ptr. The hypervisor, the clock and every Admission whose tickets are in here must outlive the
// Spawner. Units: nanoseconds, frames. Errors: control calls return Result; a VM that cannot be had is a
// kFailed reply.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
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
#include "spawner/admission.h"
#include "spawner/hypervisor.h"

namespace synfluid::spawner {

class WorkerPort;

/// What a service asks the hypervisor for.
ImageSpec image_spec(const policies::Service& service);

/// A policy with its services' images prepared. Made by Spawner::prepare(); immutable.
class ServiceSet {
 public:
  ServiceSet(std::shared_ptr<const policies::Policy> policy,
             std::vector<std::unique_ptr<PreparedImage>> images, uint32_t generation)
      : policy_(std::move(policy)), images_(std::move(images)), generation_(generation) {}

  const policies::Policy& policy() const { return *policy_; }
  const PreparedImage& image(uint16_t service) const { return *images_[service]; }
  /// Grows with every prepare().
  uint32_t generation() const { return generation_; }

 private:
  std::shared_ptr<const policies::Policy> policy_;
  std::vector<std::unique_ptr<PreparedImage>> images_;  // by service index
  uint32_t generation_;
};

struct SpawnRequest {
  uint64_t cookie = 0;  ///< the worker's own name for this request, given back in the reply
  std::shared_ptr<const ServiceSet> services;
  uint16_t service = 0;  ///< index into the policy's services
  FlowKey flow = {};
  Address subscriber = {};                      ///< by Policy::subscriber_of()
  backend::DoorbellToken doorbell = 0;          ///< the vif slot that the worker has set aside
  std::span<const std::byte> first_frame = {};  ///< the SYN
  int64_t syn_time_ns = 0;
  AdmissionTicket ticket = {};  ///< may be empty
};

enum class SpawnOutcome : uint8_t {
  kServed,     ///< a VM: `vif` is the worker's now; the first frame is in it already
  kShared,     ///< the scope has a VM and this worker owns it: see `vm`; the first frame was not sent
  kElsewhere,  ///< the scope has a VM that worker `owner` owns
  kFailed,     ///< no VM: `error` says why; the flow follows on_failure
};

struct SpawnReply {
  uint64_t cookie = 0;
  SpawnOutcome outcome = SpawnOutcome::kFailed;
  VmId vm = {};
  WorkerId owner = {};
  bool pooled = false;    ///< kServed: the VM was ready before it was asked for
  int64_t create_ns = 0;  ///< kServed: time spent building; 0 when pooled
  backend::DoorbellToken doorbell = 0;
  std::unique_ptr<backend::Vif> vif = {};
  AdmissionTicket ticket = {};  ///< kShared, kElsewhere: the request's, given back
  std::string error = {};
};

enum class SpawnerNotice : uint8_t { kCrashed, kExited };

struct VmLost {
  VmId vm = {};
  backend::DoorbellToken doorbell = 0;
  SpawnerNotice notice = SpawnerNotice::kCrashed;
};

/// The worker has no flow left for this VM (or lost it): the spawner takes it down.
struct VmReturn {
  VmId vm = {};
  std::unique_ptr<backend::Vif> vif = {};
};

enum class VmState : uint8_t {
  kBuilding,  ///< a foreign front end that has not connected yet
  kPooled,    ///< ready and paused (a foreign one: ready and idle), without a flow
  kRunning,   ///< a worker has its vif
  kDraining,  ///< it died, and its worker has not given the vif back yet; or it waits to be destroyed
};

std::string_view to_string(VmState state);

/// One VM as `ctl vms` shows it.
struct VmInfo {
  VmId vm;
  std::string name;
  std::string service;
  policies::Scope scope = policies::Scope::kFlow;
  VmState state = VmState::kBuilding;
  std::optional<WorkerId> owner;
  std::optional<FlowKey> flow;        ///< scope flow: whose it is
  std::optional<Address> subscriber;  ///< scope flow and subscriber
  uint32_t set_generation = 0;        ///< of the policy it was made by
  int64_t created_at_ns = 0;
};

/// Since start; written by the spawner's thread, read by anybody.
struct SpawnerCounters {
  uint64_t requests = 0;
  uint64_t served_cold = 0;
  uint64_t served_pooled = 0;
  uint64_t shared = 0;   ///< kShared and kElsewhere
  uint64_t failed = 0;   ///< kFailed replies
  uint64_t spawned = 0;  ///< VMs created, for the pool too
  uint64_t destroyed = 0;
  uint64_t crashed = 0;
  uint64_t exited = 0;  ///< guests that shut themselves down
  uint64_t vms = 0;     ///< there now, pooled ones included
  uint64_t peak = 0;
};

class Spawner {
 public:
  struct Config {
    Hypervisor& hypervisor;
    const Clock& clock;
    uint16_t workers = 1;
    /// Requests under way per worker; a request that finds the ring full is refused (spawner_busy). At 0.7 ms
    /// a VM, what is behind the 1,024th would wait as long as a client's first SYN time-out.
    uint32_t requests = 1024;
    /// VMs on their way back per worker: as many as one worker may own.
    uint32_t returns = 32'768;
    /// VMs a second that a pool is refilled with, all services together.
    uint32_t refill_per_s = 500;
    /// Pools are not filled when less free memory than this would be left, and are given up while there is
    /// less: it belongs to flows that come. Room for a hundred guests of ours, or four foreign ones.
    uint64_t pool_reserve_bytes = 32 << 20;
    /// How long a foreign image may take until its vif is connected.
    int64_t foreign_boot_ns = 60 * kNsPerSecond;
  };

  static Result<std::unique_ptr<Spawner>> create(const Config& config);
  /// As stop().
  ~Spawner();
  Spawner(const Spawner&) = delete;
  Spawner& operator=(const Spawner&) = delete;

  // Control.

  /// Starts the thread. Sweeping what a former run left is the caller's, before.
  Status start();
  /// Ends the thread and destroys every VM. Precondition: the workers have ended; each of their vifs is
  /// destroyed or given back.
  void stop();

  /// Digests every image of the policy; an error names the service. May take as long as its largest image.
  Result<std::shared_ptr<const ServiceSet>> prepare(std::shared_ptr<const policies::Policy> policy);
  /// Keeps the pools of this set filled, and those of no other.
  void activate(std::shared_ptr<const ServiceSet> services);
  /// Empties the pools and answers new requests with kFailed, until the next activate(). Running VMs go on.
  void drain();
  /// A worker has ended and destroyed its vifs: takes down the VMs it owned.
  void retire(WorkerId worker);

  std::vector<VmInfo> snapshot();
  /// The last of what the VM with this domain id wrote to its console.
  Result<std::string> console(DomId domid);
  SpawnerCounters counters() const noexcept;

  // Workers.

  WorkerPort& port(WorkerId worker) noexcept;

  // Without a thread, for tests and single-threaded replay.

  /// One turn: events, returns, requests; without requests, a batch of teardowns and at most one VM for a
  /// pool. True if there was anything to do.
  bool step();
  /// When step() has something to do next even if nothing arrives; nothing if it has not.
  std::optional<int64_t> next_deadline_ns() const;

 private:
  class Impl;
  explicit Spawner(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace synfluid::spawner
