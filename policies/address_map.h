// Address to row: a trie over whole bytes, compressed along and across.
//
// Across: a node answers for one byte. Its 256 children form runs of equal value (most of a /16 has no prefix
// of its own), so it keeps a bitmap with a bit where a run begins, and one value a run:
//
//     Node, one cache line:  [ 256-bit run starts | runs before each word | where | up to 6 values ]
//                             more runs than that: the values stand in `values_` instead
//
// Along: where all boundaries of a block share their next bytes, a Jump compares those at once; an address
// that lies before or behind them is done. A host route in an empty IPv6 world costs one Jump and one Node.
//
// IPv4 has a root of its own. A look-up touches at most 4 nodes for IPv4 and 16 for IPv6, and in practice 2
// to 4.
//
// Threads: immutable once built. Ownership: owns its tables. Errors: none.
#pragma once

#include <array>
#include <bit>
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
  /// The two top bits tell what the other 30 are: a row, or an index into nodes_ or jumps_.
  using Value = uint32_t;
  static constexpr Value kNode = Value{1} << 30;
  static constexpr Value kJump = Value{2} << 30;
  static constexpr Value kKindMask = Value{3} << 30;

  static constexpr size_t kInlineValues = 6;

  struct alignas(64) Node {
    std::array<uint64_t, 4> run_starts{};
    std::array<uint8_t, 4> runs_before{};
    uint8_t shift = 0;  ///< the byte is (key >> shift) & 0xff
    bool is_inline = true;
    std::array<Value, kInlineValues> values{};  ///< if not inline: values[0] is the first index into values_

    size_t run_of(unsigned byte) const noexcept;
  };
  static_assert(sizeof(Node) == 64);

  struct Jump {
    Key128 prefix = 0;  ///< already shifted
    uint8_t shift = 0;  ///< what is compared is key >> shift
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

  Value build(const Block& block);
  Value build_node(const Block& block);
  Value step(Value at, Key128 key) const noexcept;

  Value v4_root_ = 0;
  Value v6_root_ = 0;
  std::vector<Node> nodes_;
  std::vector<Jump> jumps_;
  std::vector<Value> values_;
};

}  // namespace synfluid::policies
