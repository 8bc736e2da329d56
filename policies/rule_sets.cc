#include "policies/rule_sets.h"

#include <algorithm>

namespace synfluid::policies {

namespace {

/// FNV-1a by words, with a final mix; only for finding equal rows while building.
uint64_t hash_of(std::span<const uint64_t> words) {
  uint64_t hash = 0xcbf29ce484222325;
  for (const uint64_t word : words) {
    hash = (hash ^ word) * 0x100000001b3;
    hash ^= hash >> 29;
  }
  return hash;
}

struct SparseRow {
  std::array<uint64_t, 1 + kMaxRules / 64> words{};
  size_t size = 1;
  std::span<const uint64_t> span() const { return {words.data(), size}; }
};

SparseRow sparse(const RuleBits& bits) {
  SparseRow row;
  for (size_t i = 0; i < bits.words().size(); ++i) {
    if (bits.words()[i] == 0) continue;
    row.words[0] |= uint64_t{1} << i;
    row.words[row.size++] = bits.words()[i];
  }
  return row;
}

}  // namespace

RowRef RuleSets::add(const RuleBits& bits) {
  const SparseRow row = sparse(bits);
  const uint64_t hash = hash_of(row.span());
  const auto [first, last] = by_hash_.equal_range(hash);
  for (auto it = first; it != last; ++it)
    if (std::equal(row.span().begin(), row.span().end(), words_.begin() + it->second)) return it->second;
  const auto ref = static_cast<RowRef>(words_.size());
  words_.insert(words_.end(), row.span().begin(), row.span().end());
  by_hash_.emplace(hash, ref);
  return ref;
}

void RuleSets::finish() {
  by_hash_ = {};
  words_.shrink_to_fit();
}

}  // namespace synfluid::policies
