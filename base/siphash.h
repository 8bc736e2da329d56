// SipHash-2-4 of whole words: a keyed hash whose outputs tell nothing of the key, for what an attacker sees.
// Slower than what places flows in a table (flowtable/flow_hash.h).
//
// Values: no threads, no ownership. Source: Aumasson and Bernstein, "SipHash: a fast short-input PRF", 2012.
#pragma once

#include <array>
#include <cstdint>
#include <span>

namespace synfluid {

using SipKey = std::array<uint64_t, 2>;

/// Of the words' bytes, least significant first.
uint64_t siphash(const SipKey& key, std::span<const uint64_t> words) noexcept;

}  // namespace synfluid
