// What machine a bench wants that keeps many guests of ours at once: `./dev lab` asks it with --lab-memory.
#pragma once

#include <cstdint>
#include <string>

#include <fmt/format.h>

namespace synfluid::bench {

/// The answer: MiB of the whole machine, MiB of dom0.
inline std::string lab_memory(uint64_t guests, uint64_t guest_kib) {
  constexpr uint64_t kXenMib = 256;
  constexpr uint64_t kDom0Mib = 1024;
  // Of a guest with a vif of a dozen pages, rounded up from bootstorm's kib_per_vm and dom0_kib_per_vm.
  constexpr uint64_t kXenKibPerGuest = 64;
  constexpr uint64_t kDom0KibPerGuest = 48;
  const uint64_t dom0_mib = kDom0Mib + (guests * kDom0KibPerGuest >> 10);
  return fmt::format("{} {}\n", kXenMib + dom0_mib + (guests * (guest_kib + kXenKibPerGuest) >> 10),
                     dom0_mib);
}

}  // namespace synfluid::bench
