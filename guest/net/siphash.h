// SipHash-2-4 (Aumasson and Bernstein): the keyed hash behind initial sequence numbers and hash tables, so
// that no client can predict the one or overfill the other.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

namespace synfluid::guest::net {

struct HashKey {
  uint64_t k0 = 0;
  uint64_t k1 = 0;
};

uint64_t siphash(const HashKey& key, std::span<const std::byte> bytes);

}  // namespace synfluid::guest::net
