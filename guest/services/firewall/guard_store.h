// What decides where a client's requests begin and whom they ask, kept until the server has acknowledged it,
// so that nobody can send it again with other contents.
//
// A pool of small chunks. A flow's chain holds runs: pieces of its stream, in order, with gaps where contents
// do not matter. One thread. Sequence numbers compare on a circle, so a chain spans less than 2^31 bytes.
#pragma once

#include <cstdint>
#include <span>

#include "guest/net/arena.h"
#include "guest/net/bytes.h"

namespace synfluid::guest {

inline constexpr uint16_t kNoChunk = 0xffff;

class GuardStore {
 public:
  GuardStore(net::Arena& arena, size_t chunks);

  struct Chain {
    uint16_t first = kNoChunk;
    uint16_t last = kNoChunk;
    uint16_t oldest = 0;   ///< where the oldest run is in the first chunk
    uint16_t newest = 0;   ///< where the newest run is in the last chunk
    uint16_t chunks = 0;   ///< at most kMostChunks
    uint32_t end_seq = 0;  ///< behind the newest run; of no meaning in an empty chain

    bool empty() const { return first == kNoChunk; }
    /// Whether a part of the stream that begins there may have been kept.
    bool reaches(uint32_t seq) const { return !empty() && net::seq_before(seq, end_seq); }
  };

  /// Whether so many bytes of a stream would find room, in as many runs as a chunked body can make of them.
  bool has_room(const Chain& chain, size_t bytes) const;
  /// Precondition: has_room(); `seq` is not before what is kept already.
  void append(Chain& chain, uint32_t seq, std::span<const std::byte> bytes);
  /// Whether bytes sent again are the kept ones; those in gaps may be any.
  bool matches(const Chain& chain, uint32_t seq, std::span<const std::byte> bytes) const;
  /// Whether an acknowledgement covers the oldest run. Precondition: not empty.
  bool would_release(const Chain& chain, uint32_t ack) const;
  /// Forgets the runs that the server has as a whole.
  void release(Chain& chain, uint32_t ack);
  void clear(Chain& chain);

  static constexpr size_t kChunkBytes = 508;
  /// A flow's share: a first flight of ten segments, or one frame of three pages in the smallest of runs.
  static constexpr size_t kMostChunks = 64;
  static constexpr size_t bytes_per_chunk() { return sizeof(Chunk); }

 private:
  struct Chunk {
    uint16_t next = kNoChunk;
    uint16_t used = 0;  ///< of `bytes`; runs lie one behind the other
    std::byte bytes[kChunkBytes];
  };
  /// Stands before each run's bytes, in kRunHeaderBytes.
  struct Run {
    uint32_t seq = 0;
    uint16_t bytes = 0;
    uint32_t end_seq() const { return seq + bytes; }
  };
  static constexpr size_t kRunHeaderBytes = 6;

  Run run_at(uint16_t chunk, size_t offset) const;
  void set_run(uint16_t chunk, size_t offset, const Run& run);
  void begin_run(Chain& chain, uint32_t seq);
  void add_chunk(Chain& chain);
  void drop_first_chunk(Chain& chain);

  std::span<Chunk> chunks_;
  size_t fresh_ = 0;          ///< chunks from here on have never been used
  uint16_t free_ = kNoChunk;  ///< of those before
  size_t free_count_ = 0;     ///< of both
};

}  // namespace synfluid::guest
