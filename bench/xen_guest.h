// A guest on Xen as a program holds it that plays the worker: its Vm, its vif, and where its doorbell rings.
//
// Threads: one, the hypervisor's. Ownership: a Guest owns both; the vif goes first. Errors: Result, with
// nothing left behind.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "backend/vif.h"
#include "base/clock.h"
#include "base/result.h"
#include "spawner/hypervisor.h"

namespace synfluid::bench {

/// The one worker that these programs play.
inline constexpr WorkerId kWorker{0};

struct Guest {
  std::unique_ptr<spawner::Vm> vm;
  std::unique_ptr<backend::Vif> vif;
};

/// Paused, with its vif connected. `number` is its generation and its doorbell's token.
Result<Guest> make_guest(spawner::Hypervisor& hypervisor, const spawner::PreparedImage& image,
                         const std::string& name, uint32_t number);

/// Until any of the worker's guests rings, or for so long.
void sleep_until_a_doorbell(spawner::Hypervisor& hypervisor, int64_t patience_ns);

/// What dom0's kernel says it could still give to programs.
uint64_t dom0_available_kib();

constexpr double to_ms(int64_t ns) {
  return static_cast<double>(ns) / static_cast<double>(kNsPerMs);
}

}  // namespace synfluid::bench
