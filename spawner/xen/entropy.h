// Fresh random numbers for every guest's card, fetched from the kernel for many guests at a time.
//
// Threads: one. Errors: none; getrandom() cannot fail once the kernel's generator is seeded, and waits until
// it is.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

namespace synfluid::spawner::xen {

class EntropyPool {
 public:
  using Seed = std::array<uint64_t, 4>;

  Seed take();

 private:
  /// One system call for so many guests.
  static constexpr size_t kSeeds = 64;

  std::array<Seed, kSeeds> seeds_;
  size_t used_ = kSeeds;
};

}  // namespace synfluid::spawner::xen
