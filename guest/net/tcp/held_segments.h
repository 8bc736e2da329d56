// What came before its turn: payload that waits for a hole to be filled, or for the application to be ready.
// A pool of fixed chunks, shared by all connections; each connection has a list sorted by sequence number.
//
// Nothing held was acknowledged, so anything may be forgotten: a full pool means a retransmission, not a
// loss.
#pragma once

#include <cstdint>
#include <span>

#include "guest/net/arena.h"
#include "guest/net/bytes.h"

namespace synfluid::guest::net {

inline constexpr uint16_t kNoChunk = 0xffff;

/// The head of one connection's list.
struct HeldList {
  uint16_t first = kNoChunk;
  uint8_t count = 0;
};

struct HeldChunk {
  static constexpr uint32_t kBytes = 1460;
  uint16_t next = kNoChunk;
  uint16_t length = 0;
  uint32_t seq = 0;
  bool fin = false;  ///< the segment's FIN comes behind these bytes
  std::byte bytes[kBytes];

  uint32_t end() const { return seq + length; }
};

class HeldSegments {
 public:
  /// No connection may have more than this, whatever the others do.
  static constexpr uint8_t kMaxPerConnection = 12;

  HeldSegments(Arena& arena, size_t chunks);

  enum class Fin : uint8_t { kNone, kFollows };
  void add(HeldList& list, uint32_t seq, std::span<const std::byte> bytes, Fin fin);

  /// The first chunk, if its turn has come at `next` (whatever lies before is cut off); nullptr otherwise.
  HeldChunk* due(HeldList& list, uint32_t next);
  /// Forgets the first chunk.
  void pop(HeldList& list);
  void clear(HeldList& list);

 private:
  void cut(HeldChunk& chunk, uint32_t next);
  uint16_t take_chunk();

  std::span<HeldChunk> chunks_;
  size_t fresh_ = 0;          ///< chunks from here on have never been used
  uint16_t free_ = kNoChunk;  ///< of those before
};

}  // namespace synfluid::guest::net
