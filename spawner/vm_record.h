// What the spawner knows of one VM. Private to the room; the spawner's thread only.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "backend/vif.h"
#include "spawner/spawner.h"

namespace synfluid::spawner {

/// Requests with the same key share one VM.
struct ScopeKey {
  uint32_t set_generation = 0;
  uint16_t service = 0;
  Address subscriber = {};  ///< all zero for scope service
  friend bool operator==(const ScopeKey&, const ScopeKey&) = default;
};

struct ScopeKeyHash {
  size_t operator()(const ScopeKey& key) const noexcept {
    const std::string_view bytes(reinterpret_cast<const char*>(key.subscriber.bytes.data()),
                                 key.subscriber.bytes.size());
    return std::hash<std::string_view>{}(bytes) ^ (size_t{key.set_generation} << 16 | key.service);
  }
};

struct VmIdHash {
  size_t operator()(VmId id) const noexcept { return size_t{id.generation} << 16 | id.domid.value(); }
};

/// A request whose VM boots and has not connected its vif yet.
struct Waiter {
  WorkerId worker;
  SpawnRequest request;
  int64_t deadline_ns = 0;
};

struct VmRecord {
  // Destroyed from the last to the first: the vif before its VM, the VM before its place in the counts is
  // free and before its image goes.
  std::shared_ptr<const ServiceSet> services;
  AdmissionTicket ticket;
  std::unique_ptr<Vm> vm;
  std::unique_ptr<backend::Vif> vif;  ///< while it is on its way to its worker or back

  VmId id = {};
  std::string name;
  uint16_t service = 0;
  VmState state = VmState::kBuilding;
  bool foreign = false;   ///< boots by itself; is started when it is created
  bool for_pool = false;  ///< built ahead, and not taken yet
  WorkerId near = {};     ///< the worker whose doorbell set it was built with
  std::optional<WorkerId> owner;
  backend::DoorbellToken doorbell = kNoDoorbell;
  std::optional<ScopeKey> key;
  std::optional<FlowKey> flow;
  std::optional<Address> subscriber;
  std::vector<Waiter> waiters;
  int64_t created_at_ns = 0;
  int64_t create_ns = 0;
  int64_t deadline_ns =
      0;  ///< building: until its vif must be connected; ready and unowned: until it goes unused

  const policies::Service& service_of() const { return services->policy().services()[service]; }
};

}  // namespace synfluid::spawner
