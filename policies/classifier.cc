#include "policies/classifier.h"

#include <algorithm>

#include "policies/spans.h"

namespace synfluid::policies {

namespace {

constexpr size_t kPorts = 65536;
constexpr size_t kVlanIds = 4096;

std::vector<RowRef> array_of(const Spans& spans, size_t size, RuleSets& sets) {
  const std::vector<Interval> intervals = sweep(spans, sets);
  std::vector<RowRef> rows(size);
  for (size_t i = 0; i < intervals.size() && intervals[i].first < size; ++i) {
    const auto end = i + 1 < intervals.size() ? std::min<Key128>(intervals[i + 1].first, size) : Key128{size};
    std::fill(rows.begin() + static_cast<ptrdiff_t>(intervals[i].first),
              rows.begin() + static_cast<ptrdiff_t>(end), intervals[i].row);
  }
  return rows;
}

bool looks_at_vlan(const Rule& rule) {
  return rule.match.vlan_outer.has_value() || rule.match.vlan_inner.has_value();
}

}  // namespace

Classifier::Classifier(std::span<const Rule> rules) {
  Spans source, destination, port, outer, inner;
  for (uint16_t i = 0; i < rules.size(); ++i) {
    const Match& match = rules[i].match;
    add_prefixes(source, match.subscribers, i);
    add_prefixes(destination, match.destinations, i);
    add_ranges(port, match.destination_ports, i);
    add_ranges(outer, as_span(match.vlan_outer), i);
    add_ranges(inner, as_span(match.vlan_inner), i);
  }
  source_ = AddressMap(sweep(source, sets_));
  destination_ = AddressMap(sweep(destination, sets_));
  port_ = array_of(port, kPorts, sets_);
  if (std::ranges::any_of(rules, looks_at_vlan)) {
    outer_ = array_of(outer, kVlanIds, sets_);
    inner_ = array_of(inner, kVlanIds, sets_);
  }
  sets_.finish();
}

Classifier::Rows Classifier::rows_of(const SynInfo& syn) const noexcept {
  const RowRef port = port_[syn.destination_port];
  const RowRef source = source_.find(syn.source);
  const RowRef destination = destination_.find(syn.destination);
  Rows rows{{sets_.row(source), sets_.row(destination), sets_.row(port)}, 3};
  if (outer_.empty()) return rows;
  rows.rows[3] = sets_.row(outer_[syn.vlan.outer % kVlanIds]);
  rows.rows[4] = sets_.row(inner_[syn.vlan.inner % kVlanIds]);
  rows.count = kFields;
  return rows;
}

namespace {

uint64_t common_summary(std::span<const uint64_t* const> rows) noexcept {
  uint64_t summary = ~uint64_t{0};
  for (const uint64_t* row : rows) summary &= row[0];
  return summary;
}

uint64_t common_word(std::span<const uint64_t* const> rows, unsigned index) noexcept {
  uint64_t word = ~uint64_t{0};
  for (const uint64_t* row : rows) word &= RuleSets::word(row, index);
  return word;
}

unsigned lowest_bit(uint64_t word) noexcept {
  return static_cast<unsigned>(std::countr_zero(word));
}

}  // namespace

uint16_t Classifier::match(const SynInfo& syn) const noexcept {
  const Rows rows = rows_of(syn);
  for (uint64_t summary = common_summary(rows.span()); summary != 0; summary &= summary - 1) {
    const unsigned index = lowest_bit(summary);
    const uint64_t word = common_word(rows.span(), index);
    if (word != 0) return static_cast<uint16_t>(index * 64 + lowest_bit(word));
  }
  return kDefaultRule;
}

std::vector<uint16_t> Classifier::match_all(const SynInfo& syn) const {
  const Rows rows = rows_of(syn);
  std::vector<uint16_t> matches;
  for (uint64_t summary = common_summary(rows.span()); summary != 0; summary &= summary - 1) {
    const unsigned index = lowest_bit(summary);
    for (uint64_t word = common_word(rows.span(), index); word != 0; word &= word - 1)
      matches.push_back(static_cast<uint16_t>(index * 64 + lowest_bit(word)));
  }
  return matches;
}

size_t Classifier::memory_bytes() const noexcept {
  return sets_.memory_bytes() + source_.memory_bytes() + destination_.memory_bytes() +
         (port_.capacity() + outer_.capacity() + inner_.capacity()) * sizeof(RowRef);
}

}  // namespace synfluid::policies
