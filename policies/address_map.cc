#include "policies/address_map.h"

#include <algorithm>
#include <bit>
#include <cstddef>

namespace synfluid::policies {

namespace {

constexpr unsigned kByteBits = 8;

/// The fewest bits, in whole bytes, that a block around all of these boundaries needs.
unsigned bits_that_differ(std::span<const Interval> inside) {
  const Key128 difference = inside.front().first ^ inside.back().first;
  unsigned bits = kByteBits;
  while (bits < 128 && difference >> bits != 0) bits += kByteBits;
  return bits;
}

/// Where in the key the 32 bits are that a bucket for a block of this size looks at.
uint32_t window_shift(unsigned block_bits) {
  return block_bits > 32 ? block_bits - 32 : 0;
}

/// Few boundaries, and nothing of them behind the window.
bool fits_bucket(std::span<const Interval> inside, unsigned block_bits, size_t most) {
  const Key128 behind_window = (Key128{1} << window_shift(block_bits)) - 1;
  return inside.size() <= most && std::ranges::all_of(inside, [&](const Interval& interval) {
           return (interval.first & behind_window) == 0;
         });
}

/// The intervals that begin in IPv4's block behind its first address; and the row at that address.
struct V4Part {
  std::vector<Interval> inside;
  RowRef row_before;
};

V4Part v4_part(std::span<const Interval> intervals) {
  V4Part part{{}, intervals.front().row};
  for (const Interval& interval : intervals) {
    if (interval.first <= kFirstV4) part.row_before = interval.row;
    if (interval.first > kFirstV4 && interval.first <= kLastV4) part.inside.push_back(interval);
  }
  return part;
}

/// The same without IPv4's block: nobody asks the IPv6 root for what is in it, so the row before it goes on,
/// and what held at its end begins behind it.
std::vector<Interval> v6_part(std::span<const Interval> intervals) {
  std::vector<Interval> part;
  RowRef last_row = intervals.front().row;
  bool behind = false;
  const auto add = [&](Key128 first, RowRef row) {
    if (part.empty() || part.back().row != row) part.push_back({first, row});
  };
  for (const Interval& interval : intervals) {
    if (interval.first > kLastV4 + 1 && !behind) add(kLastV4 + 1, last_row);
    behind = behind || interval.first > kLastV4;
    if (!is_v4_key(interval.first)) add(interval.first, interval.row);
    last_row = interval.row;
  }
  if (!behind) add(kLastV4 + 1, last_row);
  return part;
}

}  // namespace

AddressMap::AddressMap(std::span<const Interval> intervals) {
  const V4Part v4 = v4_part(intervals);
  v4_root_ = build({kFirstV4, 32, v4.inside, v4.row_before});
  const std::vector<Interval> v6 = v6_part(intervals);
  v6_root_ = build({0, 128, std::span(v6).subspan(1), v6.front().row});
  lines_.shrink_to_fit();
  jumps_.shrink_to_fit();
}

uint32_t AddressMap::reserve(size_t words) {
  constexpr size_t kLineWords = sizeof(Line) / sizeof(uint32_t);
  const size_t alignment = std::has_single_bit(words) ? std::min(words, kLineWords) : 1;
  used_words_ = (used_words_ + alignment - 1) / alignment * alignment;
  const size_t at = used_words_;
  used_words_ += words;
  lines_.resize((used_words_ + kLineWords - 1) / kLineWords);
  return static_cast<uint32_t>(at);
}

void AddressMap::store(uint32_t at, const void* from, size_t bytes) {
  std::memcpy(lines_.data()->words.data() + at, from, bytes);
}

AddressMap::Value AddressMap::build(const Block& block) {
  if (block.inside.empty()) return block.row_before;
  if (fits_bucket(block.inside, block.bits, kBoundaries)) return build_bucket(block);
  const unsigned bits = bits_that_differ(block.inside);
  if (bits >= block.bits) return build_node(block);
  const Key128 prefix = block.inside.front().first >> bits;
  const Value target = build({prefix << bits, bits, block.inside, block.row_before});
  jumps_.push_back({prefix, bits, block.row_before, block.inside.back().row, target});
  return kJump | static_cast<Value>(jumps_.size() - 1);
}

AddressMap::Value AddressMap::build_bucket(const Block& block) {
  Bucket bucket;
  bucket.shift = window_shift(block.bits);
  bucket.boundaries.fill(~uint32_t{0});
  bucket.rows.fill(block.inside.back().row);
  bucket.rows[0] = block.row_before;
  for (size_t i = 0; i < block.inside.size(); ++i) {
    bucket.boundaries[i] = static_cast<uint32_t>(block.inside[i].first >> bucket.shift);
    bucket.rows[i + 1] = block.inside[i].row;
  }
  const uint32_t at = reserve(sizeof bucket / sizeof(uint32_t));
  store(at, &bucket, sizeof bucket);
  return kBucket | at;
}

AddressMap::Value AddressMap::build_node(const Block& block) {
  const uint32_t at = reserve(sizeof(Node) / sizeof(uint32_t));
  const unsigned child_bits = block.bits - kByteBits;
  std::vector<Value> values;
  Node node;
  node.shift = child_bits;
  RowRef row = block.row_before;
  auto next = block.inside.begin();
  for (unsigned byte = 0; byte < 256; ++byte) {
    const Key128 first = block.first + (Key128{byte} << child_bits);
    if (next != block.inside.end() && next->first == first) row = next++->row;
    const auto begin = next;
    while (next != block.inside.end() && next->first >> child_bits == first >> child_bits) ++next;
    const Value value = build({first, child_bits, {begin, next}, row});
    if (begin != next) row = (next - 1)->row;
    if (!values.empty() && values.back() == value) continue;
    node.run_starts[byte / 64] |= uint64_t{1} << byte % 64;
    values.push_back(value);
  }
  place_values(node, at, values);
  return kNode | at;
}

void AddressMap::place_values(Node& node, uint32_t node_at, std::span<const Value> values) {
  for (size_t word = 1; word < 4; ++word)
    node.runs_before[word] =
        static_cast<uint8_t>(node.runs_before[word - 1] + std::popcount(node.run_starts[word - 1]));
  const bool fits = values.size() <= kInlineValues;
  node.values = fits ? node_at + offsetof(Node, inline_values) / sizeof(Value) : reserve(values.size());
  store(node_at, &node, sizeof node);
  store(node.values, values.data(), values.size_bytes());
}

inline AddressMap::Value AddressMap::step(const Node& node, Key128 key) const noexcept {
  const unsigned byte = static_cast<unsigned>(key >> node.shift) & 0xff;
  const uint64_t up_to_byte = ~uint64_t{0} >> (63 - byte % 64);
  const auto in_word = static_cast<unsigned>(std::popcount(node.run_starts[byte / 64] & up_to_byte));
  return words()[node.values + node.runs_before[byte / 64] + in_word - 1];
}

RowRef AddressMap::find(const Address& address) const noexcept {
  const Key128 key = to_key(address);
  Value at = is_v4_key(key) ? v4_root_ : v6_root_;
  while ((at & kKindMask) != 0) {
    const uint32_t index = at & ~kKindMask;
    if ((at & kKindMask) == kNode) {
      at = step(*reinterpret_cast<const Node*>(words() + index), key);
    } else if ((at & kKindMask) == kBucket) {
      const auto& bucket = *reinterpret_cast<const Bucket*>(words() + index);
      const auto window = static_cast<uint32_t>(key >> bucket.shift);
      size_t row = 0;
      for (const uint32_t boundary : bucket.boundaries) row += window >= boundary;
      return bucket.rows[row];
    } else {
      const Jump& jump = jumps_[index];
      const Key128 prefix = key >> jump.shift;
      if (prefix != jump.prefix) return prefix < jump.prefix ? jump.before : jump.behind;
      at = jump.target;
    }
  }
  return at;
}

size_t AddressMap::memory_bytes() const noexcept {
  return lines_.capacity() * sizeof(Line) + jumps_.capacity() * sizeof(Jump);
}

}  // namespace synfluid::policies
