#include <algorithm>
#include <array>

#include <fmt/format.h>

#include "policies/classifier.h"
#include "policies/sections.h"
#include "policies/spans.h"

namespace synfluid::policies {

namespace {

/// All conditions of a rule, narrow fields first.
using Extent = std::array<Spans, 5>;

Spans of_ranges(std::span<const Range> ranges) {
  Spans spans;
  add_ranges(spans, ranges, 0);
  return merged(std::move(spans));
}

Spans of_prefixes(std::span<const Prefix> prefixes) {
  Spans spans;
  add_prefixes(spans, prefixes, 0);
  return merged(std::move(spans));
}

Extent extent_of(const Match& match) {
  return {of_ranges(as_span(match.vlan_outer)), of_ranges(as_span(match.vlan_inner)),
          of_ranges(match.destination_ports), of_prefixes(match.destinations),
          of_prefixes(match.subscribers)};
}

bool covers(const Extent& outer, const Extent& inner) {
  for (size_t i = 0; i < outer.size(); ++i)
    if (!policies::covers(outer[i], inner[i])) return false;
  return true;
}

/// Some SYN that the rule matches. A rule that covers this one matches it too.
SynInfo sample_of(const Match& match) {
  SynInfo syn;
  if (!match.subscribers.empty()) syn.source = match.subscribers.front().address;
  if (!match.destinations.empty()) syn.destination = match.destinations.front().address;
  if (!match.destination_ports.empty()) syn.destination_port = match.destination_ports.front().first;
  if (match.vlan_outer) syn.vlan.outer = match.vlan_outer->first;
  if (match.vlan_inner) syn.vlan.inner = match.vlan_inner->first;
  return syn;
}

}  // namespace

void warn_of_shadowed_rules(const std::vector<SourcedRule>& sourced, Report& report) {
  std::vector<Rule> rules;
  std::vector<Extent> extents;
  for (const SourcedRule& s : sourced) {
    rules.push_back(s.rule);
    extents.push_back(extent_of(s.rule.match));
  }
  const Classifier classifier(rules);
  for (uint16_t i = 0; i < rules.size(); ++i) {
    for (const uint16_t earlier : classifier.match_all(sample_of(rules[i].match))) {
      if (earlier >= i) break;
      if (!covers(extents[earlier], extents[i])) continue;
      report.warning(sourced[i].node->mark, rules[i].name,
                     fmt::format("the rule '{}' can never match: '{}' before it matches all that it does",
                                 rules[i].name, rules[earlier].name));
      break;
    }
  }
}

}  // namespace synfluid::policies
