#include "guest/services/firewall/head_store.h"

#include "guest/net/bytes.h"

namespace synfluid::guest {

HeadStore::HeadStore(net::Arena& arena, size_t chunks)
    : chunks_(arena.reserve<Chunk>(chunks)), free_count_(chunks_.size()) {}

/// Precondition: there is a free chunk.
uint16_t HeadStore::take_chunk() {
  --free_count_;
  if (free_ == kNoChunk) return static_cast<uint16_t>(fresh_++);
  const uint16_t index = free_;
  free_ = chunks_[index].next;
  return index;
}

bool HeadStore::has_room(const Head& head, size_t bytes) const {
  const size_t in_last = head.bytes % kChunkBytes;
  const size_t spare = in_last == 0 ? 0 : kChunkBytes - in_last;
  return bytes <= spare + free_count_ * kChunkBytes;
}

void HeadStore::append(Head& head, std::span<const std::byte> bytes) {
  while (!bytes.empty()) {
    const size_t used = head.bytes % kChunkBytes;
    if (used == 0) {
      const uint16_t fresh = take_chunk();
      chunks_[fresh].next = kNoChunk;
      if (head.first == kNoChunk)
        head.first = fresh;
      else
        chunks_[head.last].next = fresh;
      head.last = fresh;
    }
    const size_t room = kChunkBytes - used;
    const size_t count = bytes.size() < room ? bytes.size() : room;
    net::copy_bytes(&chunks_[head.last].bytes[used], bytes.data(), count);
    head.bytes = static_cast<uint16_t>(head.bytes + count);
    bytes = bytes.subspan(count);
  }
}

bool HeadStore::matches(const Head& head, size_t offset, std::span<const std::byte> bytes) const {
  uint16_t at = head.first;
  for (; offset >= kChunkBytes && at != kNoChunk; offset -= kChunkBytes) at = chunks_[at].next;
  while (!bytes.empty() && at != kNoChunk) {
    const size_t room = kChunkBytes - offset;
    const size_t count = bytes.size() < room ? bytes.size() : room;
    if (!net::same_bytes(&chunks_[at].bytes[offset], bytes.data(), count)) return false;
    bytes = bytes.subspan(count);
    offset = 0;
    at = chunks_[at].next;
  }
  return true;
}

void HeadStore::clear(Head& head) {
  while (head.first != kNoChunk) {
    const uint16_t chunk = head.first;
    head.first = chunks_[chunk].next;
    chunks_[chunk].next = free_;
    free_ = chunk;
    ++free_count_;
  }
  head = {};
}

}  // namespace synfluid::guest
