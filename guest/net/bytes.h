// Bytes as the wire has them. Freestanding; every access is a plain unaligned load or store.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <span>

namespace synfluid::guest::net {

inline uint8_t load_u8(const std::byte* at) {
  return static_cast<uint8_t>(*at);
}

inline uint16_t load_be16(const std::byte* at) {
  uint16_t value;
  __builtin_memcpy(&value, at, sizeof(value));
  return __builtin_bswap16(value);
}

inline uint32_t load_be32(const std::byte* at) {
  uint32_t value;
  __builtin_memcpy(&value, at, sizeof(value));
  return __builtin_bswap32(value);
}

inline void store_u8(std::byte* at, uint8_t value) {
  *at = static_cast<std::byte>(value);
}

inline void store_be16(std::byte* at, uint16_t value) {
  const uint16_t wire = __builtin_bswap16(value);
  __builtin_memcpy(at, &wire, sizeof(wire));
}

inline void store_be32(std::byte* at, uint32_t value) {
  const uint32_t wire = __builtin_bswap32(value);
  __builtin_memcpy(at, &wire, sizeof(wire));
}

inline void copy_bytes(void* to, const void* from, size_t bytes) {
  __builtin_memcpy(to, from, bytes);
}
inline void zero_bytes(void* at, size_t bytes) {
  __builtin_memset(at, 0, bytes);
}
inline bool same_bytes(const void* a, const void* b, size_t bytes) {
  return __builtin_memcmp(a, b, bytes) == 0;
}

/// Sequence numbers compare on a circle (RFC 9293 3.4).
constexpr bool seq_before(uint32_t a, uint32_t b) {
  return static_cast<int32_t>(a - b) < 0;
}
constexpr bool seq_at_or_before(uint32_t a, uint32_t b) {
  return static_cast<int32_t>(a - b) <= 0;
}

constexpr uint32_t smaller(uint32_t a, uint32_t b) {
  return a < b ? a : b;
}
constexpr uint32_t larger(uint32_t a, uint32_t b) {
  return a > b ? a : b;
}

}  // namespace synfluid::guest::net
