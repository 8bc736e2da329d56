// A worker's vifs, each in a slot whose number is its doorbell's token.
//
// A slot is free, reserved (a VM has been asked for), or live (the vif is here). Busy slots are polled; the
// others wait for their doorbell. A freed slot is the last to be used again, so that a late doorbell of its
// former vif finds nobody. Threads: the worker's alone. Memory: all slots at construction.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "backend/vif.h"
#include "gateway/flow_data.h"
#include "spawner/hypervisor.h"

namespace synfluid::gateway {

/// What a shared VM is for; services are numbered per plan.
struct ScopeKey {
  uint32_t plan_generation = 0;
  uint16_t service = policies::kNoService;
  Address subscriber;  ///< all zero where the scope is the service
  friend bool operator==(const ScopeKey&, const ScopeKey&) = default;
};

struct VifSlot {
  enum class State : uint8_t { kFree, kReserved, kLive };
  State state = State::kFree;
  bool busy = false;
  bool dirty = false;  ///< sent to or received from in this turn: to be flushed
  policies::ServiceMode mode = policies::ServiceMode::kTerminate;
  policies::Scope scope = policies::Scope::kFlow;
  uint16_t service = 0;
  uint32_t quiet_polls = 0;
  uint32_t flows = 0;
  uint32_t first_flow = kNone;
  int64_t idle_timeout_ns = 0;
  int64_t idle_since_ns = 0;  ///< traffic time; counts while `flows` is 0
  ScopeKey key;
  VlanTags vlan;  ///< of all its flows, where the vif adapts the link layer: the guest's own frames have none
  spawner::VmId vm;
  std::unique_ptr<backend::Vif> vif;
  HeldList backlog;  ///< frames that found no receive buffer
};

class VifSlots {
 public:
  explicit VifSlots(uint32_t slots);

  /// kNone when all are in use.
  uint32_t reserve() noexcept;
  /// The slot must not be busy and must hold no vif and no frames.
  void free(uint32_t slot) noexcept;

  VifSlot& operator[](uint32_t slot) noexcept { return slots_[slot]; }
  const VifSlot& operator[](uint32_t slot) const noexcept { return slots_[slot]; }
  uint32_t size() const noexcept { return static_cast<uint32_t>(slots_.size()); }
  bool is_live(uint32_t slot) const noexcept {
    return slot < slots_.size() && slots_[slot].state == VifSlot::State::kLive;
  }

  void set_busy(uint32_t slot) noexcept;
  void set_quiet(uint32_t slot) noexcept;
  std::span<const uint32_t> busy() const noexcept { return busy_; }

 private:
  std::vector<VifSlot> slots_;
  std::vector<uint32_t> free_ring_;
  size_t free_head_ = 0;
  size_t free_count_ = 0;
  std::vector<uint32_t> busy_;
};

}  // namespace synfluid::gateway
