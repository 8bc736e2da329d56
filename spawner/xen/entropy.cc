#include "spawner/xen/entropy.h"

#include <utility>

#include <sys/random.h>

namespace synfluid::spawner::xen {

EntropyPool::Seed EntropyPool::take() {
  if (used_ == kSeeds) {
    auto* at = reinterpret_cast<std::byte*>(seeds_.data());
    size_t left = sizeof(seeds_);
    while (left != 0) {
      const ssize_t got = ::getrandom(at, left, 0);
      if (got <= 0) continue;
      at += got;
      left -= static_cast<size_t>(got);
    }
    used_ = 0;
  }
  return std::exchange(seeds_[used_++], Seed{});
}

}  // namespace synfluid::spawner::xen
