// Address to row: a trie over whole bytes, compressed along and across, in one array of 32-bit words.
//
//     Node, one cache line: answers for one byte. Its 256 children form runs of equal value, so it keeps a
//     bitmap with a bit where a run begins, and one value a run; up to five values stand in the node itself.
//         [ 8 words: run starts | runs before each quarter | shift | where the values are | 5 values ]
//
//     Bucket, half a line: a block with up to three boundaries left, which is what one or two prefixes make.
//     Looks at 32 bits at once, and is always the end of the walk.
//         [ 3 boundaries | 4 rows | shift ]
//
//     Jump: where all boundaries of a block share their next bytes, these are compared at once; an address
//     before or behind them is done.
//
// A step has no branch but that on the kind of what comes next. IPv4 has a root of its own. A look-up touches
// at most 4 nodes for IPv4 and 16 for IPv6, and in practice two or three lines.
//
// Threads: immutable once built. Ownership: owns its tables. Errors: none.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <vector>

#include "policies/key128.h"
#include "policies/sweep.h"

namespace synfluid::policies {

class AddressMap {
 public:
  AddressMap() = default;
  /// `intervals` as sweep() gives them.
  explicit AddressMap(std::span<const Interval> intervals);

  RowRef find(const Address& address) const noexcept;

  size_t memory_bytes() const noexcept;

 private:
  /// The two top bits tell what the other 30 are: a row, or where something begins (a jump: which one).
  using Value = uint32_t;
  static constexpr Value kNode = Value{1} << 30;
  static constexpr Value kBucket = Value{2} << 30;
  static constexpr Value kJump = Value{3} << 30;
  static constexpr Value kKindMask = Value{3} << 30;

  static constexpr size_t kBoundaries = 3;
  static constexpr size_t kInlineValues = 5;

  struct Node {
    std::array<uint64_t, 4> run_starts{};
    std::array<uint8_t, 4> runs_before{};
    uint32_t shift = 0;   ///< the byte is (key >> shift) & 0xff
    uint32_t values = 0;  ///< index into words_
    std::array<Value, kInlineValues> inline_values{};
  };
  static_assert(sizeof(Node) == 64);

  struct Bucket {
    std::array<uint32_t, kBoundaries> boundaries{};
    std::array<RowRef, kBoundaries + 1> rows{};
    uint32_t shift = 0;  ///< what is compared is the low 32 bits of key >> shift
  };
  static_assert(sizeof(Bucket) == 32);

  struct Jump {
    Key128 prefix = 0;   ///< already shifted
    uint32_t shift = 0;  ///< what is compared is key >> shift
    RowRef before = 0;
    RowRef behind = 0;
    Value target = 0;
  };

  /// An aligned block of 2^bits addresses and the intervals whose boundaries lie inside it.
  struct Block {
    Key128 first;
    unsigned bits;
    std::span<const Interval> inside;
    RowRef row_before;  ///< what holds at `first`
  };

  struct alignas(64) Line {
    std::array<uint32_t, 16> words{};
  };

  Value build(const Block& block);
  Value build_node(const Block& block);
  Value build_bucket(const Block& block);
  void place_values(Node& node, uint32_t node_at, std::span<const Value> values);
  /// Room for so many words, zeroed; aligned to their size where that is a power of two.
  uint32_t reserve(size_t words);
  void store(uint32_t at, const void* from, size_t bytes);

  const uint32_t* words() const noexcept { return lines_.data()->words.data(); }
  Value step(const Node& node, Key128 key) const noexcept;

  Value v4_root_ = 0;
  Value v6_root_ = 0;
  std::vector<Line> lines_;
  size_t used_words_ = 0;
  std::vector<Jump> jumps_;
};

}  // namespace synfluid::policies
