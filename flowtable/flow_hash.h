// The keyed hash of a flow.
//
// The key's five words and five secret words go through NH (Black, Halevi, Krawczyk, Krovetz, Rogaway:
// "UMAC", CRYPTO '99): a sum, modulo 2^128, of products of 64-bit words, each offset by a secret (the last,
// which stands alone, times a secret). For any two keys chosen without knowing the secret, the sums are equal
// with probability at most 2^-64. The two halves of the sum are then multiplied, and the product folded to 64
// bits. That step is not linear, so that who could tell from timing which flows share a bucket still has no
// linear equations in the secret; for it there is no proof, only the distribution tests. It is no MAC: it
// places flows.
//
// The secret words are SipHash-2-4 of a counter under the 128-bit boot secret: a hash that is too slow for
// each packet is right for start-up.
//
// Threads: immutable. Order of 30 instructions a key, no table, no instruction that x86-64-v2 or arm64 lacks.
#pragma once

#include <array>
#include <cstdint>

#include "base/result.h"
#include "flowtable/layout.h"

namespace synfluid::flowtable {

using Secret = std::array<uint64_t, 2>;

/// From the kernel's generator. One per boot and process.
Result<Secret> random_secret();

__extension__ using Wide = unsigned __int128;

class FlowHash {
 public:
  explicit FlowHash(const Secret& secret) noexcept;

  uint64_t operator()(const KeyWords& w) const noexcept {
    const Wide sum = product(w.low_head + words_[0], w.low_tail + words_[1]) +
                     product(w.high_head + words_[2], w.high_tail + words_[3]) + product(w.ports, words_[4]);
    const Wide folded = product(low_half(sum), high_half(sum));
    return low_half(folded) ^ high_half(folded);
  }
  uint64_t operator()(const FlowKey& key) const noexcept { return (*this)(KeyWords::of(key)); }

 private:
  static Wide product(uint64_t a, uint64_t b) noexcept { return static_cast<Wide>(a) * b; }
  static uint64_t low_half(Wide w) noexcept { return static_cast<uint64_t>(w); }
  static uint64_t high_half(Wide w) noexcept { return static_cast<uint64_t>(w >> 64); }

  std::array<uint64_t, 5> words_;
};

}  // namespace synfluid::flowtable
