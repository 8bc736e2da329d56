// Copying and clearing whole pages of a guest that is being built.
//
// In moves of 16 bytes that the compiler makes of the blocks below: a few pages fit well into the cache, and
// the C library's choice for such sizes, a string instruction, counts as an instruction a byte where
// instructions are the clock (tests/lab/README.md).
#pragma once

#include <cassert>
#include <cstddef>
#include <cstring>
#include <span>

namespace synfluid::spawner {

inline constexpr size_t kMoveBytes = 64;

/// Precondition: as many bytes here as there, in whole blocks of kMoveBytes.
inline void copy_pages(std::span<const std::byte> from, std::span<std::byte> into) {
  assert(from.size() == into.size() && from.size() % kMoveBytes == 0);
  for (size_t at = 0; at < from.size(); at += kMoveBytes)
    std::memcpy(into.data() + at, from.data() + at, kMoveBytes);
}

/// Precondition: whole blocks of kMoveBytes.
inline void clear_pages(std::span<std::byte> bytes) {
  assert(bytes.size() % kMoveBytes == 0);
  for (size_t at = 0; at < bytes.size(); at += kMoveBytes) std::memset(bytes.data() + at, 0, kMoveBytes);
}

}  // namespace synfluid::spawner
