// Sets of rules as sparse bit vectors, each distinct set kept once.
//
// A row is [ summary | word | word | … ]: bit w of the summary says that rules 64w … 64w+63 have a word, and
// that it is not zero; words stand in order. 64 x 64 = kMaxRules. A row with up to seven words fits one cache
// line.
//
// Threads: add() from one thread; rows may be read from any once no more are added. Ownership: owns its
// words.
#pragma once

#include <array>
#include <bit>
#include <cstdint>
#include <span>
#include <unordered_map>
#include <vector>

#include "policies/policy.h"

namespace synfluid::policies {

/// Where a row starts in its RuleSets. Stays below 2^30.
using RowRef = uint32_t;

class RuleBits {
 public:
  void set(uint16_t rule) { words_[rule / 64] |= uint64_t{1} << rule % 64; }
  void clear(uint16_t rule) { words_[rule / 64] &= ~(uint64_t{1} << rule % 64); }
  std::span<const uint64_t, kMaxRules / 64> words() const { return words_; }

 private:
  std::array<uint64_t, kMaxRules / 64> words_{};
};

class RuleSets {
 public:
  /// The row of this set; the same one for the same set.
  RowRef add(const RuleBits& bits);

  const uint64_t* row(RowRef ref) const noexcept { return words_.data() + ref; }
  /// A word that the row's summary says it has.
  static uint64_t word(const uint64_t* row, unsigned index) noexcept {
    return row[1 + std::popcount(row[0] & ((uint64_t{1} << index) - 1))];
  }

  /// Gives back what only add() needs.
  void finish();
  size_t memory_bytes() const noexcept { return words_.capacity() * sizeof(uint64_t); }

 private:
  std::vector<uint64_t> words_;
  std::unordered_multimap<uint64_t, RowRef> by_hash_;
};

}  // namespace synfluid::policies
