// The first bytes of each client, kept so that nobody can send them again with other contents.
//
// A pool of small chunks; a flow's head is a chain of them. One thread.
#pragma once

#include <cstdint>
#include <span>

#include "guest/net/arena.h"

namespace synfluid::guest {

inline constexpr uint16_t kNoChunk = 0xffff;

class HeadStore {
 public:
  HeadStore(net::Arena& arena, size_t chunks);

  struct Head {
    uint16_t first = kNoChunk;
    uint16_t last = kNoChunk;
    uint16_t bytes = 0;
  };

  /// Whether so many bytes more would find room.
  bool has_room(const Head& head, size_t bytes) const;
  /// Precondition: has_room().
  void append(Head& head, std::span<const std::byte> bytes);
  /// Compares with what is stored from `offset` on; the range must be stored.
  bool matches(const Head& head, size_t offset, std::span<const std::byte> bytes) const;
  void clear(Head& head);

  static constexpr size_t kChunkBytes = 508;
  static constexpr size_t bytes_per_chunk() { return sizeof(Chunk); }

 private:
  struct Chunk {
    uint16_t next = kNoChunk;
    std::byte bytes[kChunkBytes];
  };
  std::span<Chunk> chunks_;
  uint16_t take_chunk();
  size_t fresh_ = 0;          ///< chunks from here on have never been used
  uint16_t free_ = kNoChunk;  ///< of those before
  size_t free_count_ = 0;     ///< of both
};

}  // namespace synfluid::guest
