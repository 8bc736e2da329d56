// Which rule is the first to match a SYN, at a cost that hardly depends on how many there are.
//
//     source ───────▶ AddressMap ─┐
//     destination ──▶ AddressMap ─┤  each gives a row: the set of the rules whose condition on this field
//     holds port ─────────▶ array ──────┼─▶    row = [ summary | word | word | … ]   (rule_sets.h) outer VLAN
//     ───▶ array ──────┤ inner VLAN ───▶ array ──────┘
//
//     candidates = AND of the summaries; for each, in order: AND of its words; the first bit set is the rule
//
// This is the aggregated bit vector scheme (Baboescu and Varghese, SIGCOMM 2001) with one row for all values
// that satisfy the same rules. It has no product of tables that could blow up: memory is at most 65 words a
// boundary, time one walk per address and at worst 64 words a field.
//
// Threads: immutable once built; match() from any thread. Ownership: owns its tables, keeps no reference to
// the rules. Errors: none; the caller keeps the counts within kMaxRules and kMaxConditions.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "policies/address_map.h"
#include "policies/policy.h"
#include "policies/rule_sets.h"

namespace synfluid::policies {

class Classifier {
 public:
  explicit Classifier(std::span<const Rule> rules);

  /// The index of the first rule that matches, or kDefaultRule.
  uint16_t match(const SynInfo& syn) const noexcept;

  /// All rules that match, in order: for finding rules that can never be first.
  std::vector<uint16_t> match_all(const SynInfo& syn) const;

  size_t memory_bytes() const noexcept;

 private:
  static constexpr size_t kFields = 5;
  /// Those of the VLANs come last; without them there are three.
  struct Rows {
    std::array<const uint64_t*, kFields> rows;
    size_t count;
    std::span<const uint64_t* const> span() const noexcept { return {rows.data(), count}; }
  };

  Rows rows_of(const SynInfo& syn) const noexcept;

  RuleSets sets_;
  AddressMap source_;
  AddressMap destination_;
  std::vector<RowRef> port_;
  std::vector<RowRef> outer_;  ///< these two are empty if no rule looks at VLANs
  std::vector<RowRef> inner_;
};

}  // namespace synfluid::policies
