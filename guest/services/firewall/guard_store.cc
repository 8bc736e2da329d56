#include "guest/services/firewall/guard_store.h"

namespace synfluid::guest {

GuardStore::GuardStore(net::Arena& arena, size_t chunks)
    : chunks_(arena.reserve<Chunk>(chunks)), free_count_(chunks_.size()) {}

/// A body in chunks of one byte is the worst: five bytes of every six are kept, each five behind a header.
bool GuardStore::has_room(const Chain& chain, size_t bytes) const {
  static_assert(5 + kRunHeaderBytes <= 2 * 6);
  const size_t worst = 2 * bytes;
  const size_t spare = chain.empty() ? 0 : kChunkBytes - chunks_[chain.last].used;
  if (worst + kRunHeaderBytes <= spare) return true;
  // Each chunk begins with a header, and one that would not fit is left off at its end.
  const size_t needed = worst / (kChunkBytes - 2 * kRunHeaderBytes) + 1;
  return needed <= free_count_ && chain.chunks + needed <= kMostChunks;
}

GuardStore::Run GuardStore::run_at(uint16_t chunk, size_t offset) const {
  Run run;
  const std::byte* at = &chunks_[chunk].bytes[offset];
  net::copy_bytes(&run.seq, at, sizeof(run.seq));
  net::copy_bytes(&run.bytes, at + sizeof(run.seq), sizeof(run.bytes));
  return run;
}

void GuardStore::set_run(uint16_t chunk, size_t offset, const Run& run) {
  std::byte* at = &chunks_[chunk].bytes[offset];
  net::copy_bytes(at, &run.seq, sizeof(run.seq));
  net::copy_bytes(at + sizeof(run.seq), &run.bytes, sizeof(run.bytes));
}

/// Precondition: there is a free chunk.
void GuardStore::add_chunk(Chain& chain) {
  --free_count_;
  const bool was_used = free_ != kNoChunk;
  const uint16_t index = was_used ? free_ : static_cast<uint16_t>(fresh_++);
  if (was_used) free_ = chunks_[index].next;
  chunks_[index].next = kNoChunk;
  chunks_[index].used = 0;
  if (chain.empty())
    chain.first = index;
  else
    chunks_[chain.last].next = index;
  chain.last = index;
  ++chain.chunks;
}

void GuardStore::begin_run(Chain& chain, uint32_t seq) {
  if (chain.empty() || kChunkBytes - chunks_[chain.last].used <= kRunHeaderBytes) add_chunk(chain);
  Chunk& chunk = chunks_[chain.last];
  chain.newest = chunk.used;
  set_run(chain.last, chain.newest, {seq, 0});
  chunk.used = static_cast<uint16_t>(chunk.used + kRunHeaderBytes);
  chain.end_seq = seq;
}

void GuardStore::append(Chain& chain, uint32_t seq, std::span<const std::byte> bytes) {
  while (!bytes.empty()) {
    const bool goes_on = !chain.empty() && chain.end_seq == seq && chunks_[chain.last].used < kChunkBytes;
    if (!goes_on) begin_run(chain, seq);
    Chunk& chunk = chunks_[chain.last];
    const size_t room = kChunkBytes - chunk.used;
    const size_t count = bytes.size() < room ? bytes.size() : room;
    net::copy_bytes(&chunk.bytes[chunk.used], bytes.data(), count);
    chunk.used = static_cast<uint16_t>(chunk.used + count);
    Run run = run_at(chain.last, chain.newest);
    run.bytes = static_cast<uint16_t>(run.bytes + count);
    set_run(chain.last, chain.newest, run);
    seq += static_cast<uint32_t>(count);
    chain.end_seq = seq;
    bytes = bytes.subspan(count);
  }
}

bool GuardStore::matches(const Chain& chain, uint32_t seq, std::span<const std::byte> bytes) const {
  const auto size = static_cast<int32_t>(bytes.size());
  size_t offset = chain.oldest;
  for (uint16_t at = chain.first; at != kNoChunk; at = chunks_[at].next, offset = 0) {
    while (offset < chunks_[at].used) {
      const Run run = run_at(at, offset);
      const auto begin = static_cast<int32_t>(run.seq - seq);
      const auto end = static_cast<int32_t>(run.end_seq() - seq);
      if (begin >= size) return true;
      const int32_t from = begin < 0 ? 0 : begin;
      const int32_t to = end < size ? end : size;
      const std::byte* kept = &chunks_[at].bytes[offset + kRunHeaderBytes];
      if (from < to && !net::same_bytes(kept + (from - begin), &bytes[from], static_cast<size_t>(to - from)))
        return false;
      offset += kRunHeaderBytes + run.bytes;
    }
  }
  return true;
}

bool GuardStore::would_release(const Chain& chain, uint32_t ack) const {
  return net::seq_at_or_before(run_at(chain.first, chain.oldest).end_seq(), ack);
}

void GuardStore::release(Chain& chain, uint32_t ack) {
  while (!chain.empty() && would_release(chain, ack)) {
    const size_t behind = chain.oldest + kRunHeaderBytes + run_at(chain.first, chain.oldest).bytes;
    chain.oldest = static_cast<uint16_t>(behind);
    if (behind == chunks_[chain.first].used) drop_first_chunk(chain);
  }
}

void GuardStore::drop_first_chunk(Chain& chain) {
  const uint16_t chunk = chain.first;
  chain.first = chunks_[chunk].next;
  chain.oldest = 0;
  --chain.chunks;
  chunks_[chunk].next = free_;
  free_ = chunk;
  ++free_count_;
  if (chain.empty()) chain = {};
}

void GuardStore::clear(Chain& chain) {
  while (!chain.empty()) drop_first_chunk(chain);
}

}  // namespace synfluid::guest
