#include "policies/address_map.h"

#include <algorithm>

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
  nodes_.shrink_to_fit();
  jumps_.shrink_to_fit();
  values_.shrink_to_fit();
}

AddressMap::Value AddressMap::build(const Block& block) {
  if (block.inside.empty()) return block.row_before;
  const unsigned bits = bits_that_differ(block.inside);
  if (bits >= block.bits) return build_node(block);
  const Key128 prefix = block.inside.front().first >> bits;
  const Value target = build_node({prefix << bits, bits, block.inside, block.row_before});
  const auto shift = static_cast<uint8_t>(bits);
  jumps_.push_back({prefix, shift, block.row_before, block.inside.back().row, target});
  return kJump | static_cast<Value>(jumps_.size() - 1);
}

AddressMap::Value AddressMap::build_node(const Block& block) {
  const unsigned child_bits = block.bits - kByteBits;
  std::vector<Value> values;
  Node node;
  node.shift = static_cast<uint8_t>(child_bits);
  RowRef row = block.row_before;
  auto next = block.inside.begin();
  for (unsigned byte = 0; byte < 256; ++byte) {
    const Key128 first = block.first + (Key128{byte} << child_bits);
    if (next != block.inside.end() && next->first == first) row = next++->row;
    const auto begin = next;
    while (next != block.inside.end() && next->first >> child_bits == first >> child_bits) ++next;
    const Value value = build({first, child_bits, {begin, next}, row});
    if (begin != next) row = (next - 1)->row;
    if (values.empty() || values.back() != value) {
      node.run_starts[byte / 64] |= uint64_t{1} << byte % 64;
      values.push_back(value);
    }
  }
  for (size_t word = 1; word < 4; ++word)
    node.runs_before[word] =
        static_cast<uint8_t>(node.runs_before[word - 1] + std::popcount(node.run_starts[word - 1]));
  node.is_inline = values.size() <= kInlineValues;
  if (node.is_inline) {
    std::ranges::copy(values, node.values.begin());
  } else {
    node.values[0] = static_cast<Value>(values_.size());
    values_.insert(values_.end(), values.begin(), values.end());
  }
  nodes_.push_back(node);
  return kNode | static_cast<Value>(nodes_.size() - 1);
}

size_t AddressMap::Node::run_of(unsigned byte) const noexcept {
  const uint64_t up_to_byte = ~uint64_t{0} >> (63 - byte % 64);
  const size_t word = byte / 64;
  return size_t{runs_before[word]} + static_cast<size_t>(std::popcount(run_starts[word] & up_to_byte)) - 1;
}

AddressMap::Value AddressMap::step(Value at, Key128 key) const noexcept {
  if ((at & kKindMask) == kNode) {
    const Node& node = nodes_[at & ~kKindMask];
    const size_t run = node.run_of(static_cast<unsigned>(key >> node.shift) & 0xff);
    return node.is_inline ? node.values[run] : values_[node.values[0] + run];
  }
  const Jump& jump = jumps_[at & ~kKindMask];
  const Key128 prefix = key >> jump.shift;
  if (prefix == jump.prefix) return jump.target;
  return prefix < jump.prefix ? jump.before : jump.behind;
}

RowRef AddressMap::find(const Address& address) const noexcept {
  const Key128 key = to_key(address);
  Value at = is_v4_key(key) ? v4_root_ : v6_root_;
  while ((at & kKindMask) != 0) at = step(at, key);
  return at;
}

size_t AddressMap::memory_bytes() const noexcept {
  return nodes_.capacity() * sizeof(Node) + jumps_.capacity() * sizeof(Jump) +
         values_.capacity() * sizeof(Value);
}

}  // namespace synfluid::policies
