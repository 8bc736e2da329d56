// Addresses as 128-bit numbers, so that blocks and boundaries are arithmetic.
//
// Values: no threads, no ownership.
#pragma once

#include <cstdint>
#include <cstring>

#include "base/address.h"

namespace synfluid::policies {

__extension__ using Key128 = unsigned __int128;

inline constexpr Key128 kLastKey = ~Key128{0};
/// ::ffff:0:0/96, where IPv4 lives.
inline constexpr Key128 kFirstV4 = Key128{0xffff} << 32;
inline constexpr Key128 kLastV4 = kFirstV4 | 0xffff'ffff;
/// A prefix of fewer bits is IPv6, and IPv4 is no part of it: "::/0" means all of IPv6.
inline constexpr uint8_t kV4PrefixBits = 96;

inline Key128 to_key(const Address& address) noexcept {
  uint64_t words[2];
  std::memcpy(words, address.bytes.data(), sizeof words);
  return Key128{__builtin_bswap64(words[0])} << 64 | __builtin_bswap64(words[1]);
}

inline Key128 last_key(const Prefix& prefix) noexcept {
  const Key128 host = prefix.length == 128 ? Key128{0} : kLastKey >> prefix.length;
  return to_key(prefix.address) | host;
}

constexpr bool is_v4_key(Key128 key) noexcept {
  return key >> 32 == 0xffff;
}

}  // namespace synfluid::policies
