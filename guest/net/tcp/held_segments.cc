#include "guest/net/tcp/held_segments.h"

namespace synfluid::guest::net {

HeldSegments::HeldSegments(Arena& arena, size_t chunks) : chunks_(arena.reserve<HeldChunk>(chunks)) {}

/// A free chunk, or kNoChunk.
uint16_t HeldSegments::take_chunk() {
  const uint16_t index = free_;
  if (index != kNoChunk)
    free_ = chunks_[index].next;
  else if (fresh_ < chunks_.size())
    return static_cast<uint16_t>(fresh_++);
  return index;
}

void HeldSegments::add(HeldList& list, uint32_t seq, std::span<const std::byte> bytes, Fin fin) {
  if (list.count == kMaxPerConnection || bytes.size() > HeldChunk::kBytes) return;
  const auto end = seq + static_cast<uint32_t>(bytes.size());
  uint16_t* link = &list.first;
  while (*link != kNoChunk && seq_before(chunks_[*link].seq, seq)) link = &chunks_[*link].next;
  // The same start and no more than what is there: a retransmission.
  if (*link != kNoChunk && chunks_[*link].seq == seq && seq_at_or_before(end, chunks_[*link].end())) return;
  const uint16_t index = take_chunk();
  if (index == kNoChunk) return;
  HeldChunk& chunk = chunks_[index];
  chunk.next = *link;
  chunk.seq = seq;
  chunk.length = static_cast<uint16_t>(bytes.size());
  chunk.fin = fin == Fin::kFollows;
  copy_bytes(&chunk.bytes[0], bytes.data(), bytes.size());
  *link = index;
  ++list.count;
}

/// Takes off what lies before `next`.
void HeldSegments::cut(HeldChunk& chunk, uint32_t next) {
  const uint32_t skip = smaller(next - chunk.seq, chunk.length);
  __builtin_memmove(&chunk.bytes[0], &chunk.bytes[skip], chunk.length - skip);
  chunk.length = static_cast<uint16_t>(chunk.length - skip);
  chunk.seq += skip;
}

HeldChunk* HeldSegments::due(HeldList& list, uint32_t next) {
  while (list.first != kNoChunk) {
    HeldChunk& chunk = chunks_[list.first];
    if (seq_before(next, chunk.seq)) return nullptr;
    const uint32_t end = chunk.end() + (chunk.fin ? 1 : 0);
    if (seq_before(next, end)) {
      if (chunk.seq != next) cut(chunk, next);
      return &chunk;
    }
    pop(list);
  }
  return nullptr;
}

void HeldSegments::pop(HeldList& list) {
  const uint16_t index = list.first;
  list.first = chunks_[index].next;
  --list.count;
  chunks_[index].next = free_;
  free_ = index;
}

void HeldSegments::clear(HeldList& list) {
  while (list.first != kNoChunk) pop(list);
}

}  // namespace synfluid::guest::net
