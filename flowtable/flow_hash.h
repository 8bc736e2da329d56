// The keyed hash of a flow.
//
// The key's five words and five secret words go through NH (Black, Halevi, Krawczyk, Krovetz, Rogaway:
// "UMAC", CRYPTO '99): a sum, modulo 2^128, of products of 64-bit words, each offset by a secret (the last,
// which stands alone, times a secret). Words are paired so that of an IPv4 flow one product is constant. For
// any two keys chosen without knowing the secret, the sums are equal with probability at most 2^-64. The two
// halves of the sum are then multiplied, and the product folded to 64 bits. That step is not linear, so that
// who could tell from timing which flows share a bucket still has no linear equations in the secret; for it
// there is no proof, only the distribution tests. It is no MAC: it places flows.
//
// The secret words are SipHash-2-4 of a counter under the 128-bit boot secret: a hash that is too slow for
// each packet is right for start-up.
//
// Threads: immutable. Order of 30 instructions a key, no table, no instruction that x86-64-v2 or arm64 lacks.
#pragma once

#include <array>
#include <cstdint>

#include "base/plain_ipv4.h"
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
    return folded(product(w.low_tail + words_[0], w.high_tail + words_[1]) +
                  product(w.low_head + words_[2], w.high_head + words_[3]) + product(w.ports, words_[4]));
  }
  uint64_t operator()(const FlowKey& key) const noexcept { return (*this)(KeyWords::of(key)); }
  /// The same of an IPv4 flow.
  uint64_t operator()(const plain_ipv4::Flow& flow) const noexcept {
    return folded(product((flow.addresses << 32) + ipv4_low_, (flow.addresses >> 32 << 32) + ipv4_high_) +
                  ipv4_heads_ + product(flow.ports, words_[4]));
  }

 private:
  static uint64_t folded(Wide sum) noexcept {
    const Wide wide = product(low_half(sum), high_half(sum));
    return low_half(wide) ^ high_half(wide);
  }
  static Wide product(uint64_t a, uint64_t b) noexcept { return static_cast<Wide>(a) * b; }
  static uint64_t low_half(Wide w) noexcept { return static_cast<uint64_t>(w); }
  static uint64_t high_half(Wide w) noexcept { return static_cast<uint64_t>(w >> 64); }

  std::array<uint64_t, 5> words_;
  // With what IPv4 addresses have in common.
  uint64_t ipv4_low_;
  uint64_t ipv4_high_;
  Wide ipv4_heads_;
};

}  // namespace synfluid::flowtable
