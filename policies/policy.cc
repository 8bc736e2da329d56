#include "policies/policy.h"

#include <algorithm>

#include "policies/classifier.h"
#include "policies/key128.h"

namespace synfluid::policies {

std::string_view to_string(ServiceMode mode) {
  return mode == ServiceMode::kTerminate ? "terminate" : "inline";
}

std::string_view to_string(Scope scope) {
  switch (scope) {
    case Scope::kFlow:
      return "flow";
    case Scope::kSubscriber:
      return "subscriber";
    case Scope::kService:
      return "service";
  }
  return "unknown";
}

std::string_view to_string(OnFailure on_failure) {
  switch (on_failure) {
    case OnFailure::kBypass:
      return "bypass";
    case OnFailure::kDrop:
      return "drop";
    case OnFailure::kReset:
      return "reset";
  }
  return "unknown";
}

std::string_view to_string(OnTableFull on_table_full) {
  return on_table_full == OnTableFull::kBypass ? "bypass" : "drop";
}

std::string_view to_string(Verdict::Kind kind) {
  switch (kind) {
    case Verdict::Kind::kBypass:
      return "bypass";
    case Verdict::Kind::kDrop:
      return "drop";
    case Verdict::Kind::kReset:
      return "reset";
    case Verdict::Kind::kService:
      return "service";
  }
  return "unknown";
}

namespace {

bool prefix_matches(const Prefix& prefix, const Address& address) {
  if (prefix.length < kV4PrefixBits && address.is_v4()) return false;
  return prefix.contains(address);
}

bool any_prefix(const std::vector<Prefix>& prefixes, const Address& address) {
  return prefixes.empty() ||
         std::ranges::any_of(prefixes, [&](const Prefix& prefix) { return prefix_matches(prefix, address); });
}

bool any_range(const std::vector<Range>& ranges, uint16_t value) {
  return ranges.empty() ||
         std::ranges::any_of(ranges, [&](const Range& range) { return range.contains(value); });
}

}  // namespace

bool Rule::matches(const SynInfo& syn) const {
  return any_prefix(match.subscribers, syn.source) && any_prefix(match.destinations, syn.destination) &&
         any_range(match.destination_ports, syn.destination_port) &&
         (!match.vlan_outer || match.vlan_outer->contains(syn.vlan.outer)) &&
         (!match.vlan_inner || match.vlan_inner->contains(syn.vlan.inner));
}

Policy::Policy(PolicySpec spec) : spec_(std::move(spec)) {
  for (size_t i = 0; i < spec_.rules.size(); ++i) spec_.rules[i].verdict.rule = static_cast<uint16_t>(i);
  spec_.fallback.rule = kDefaultRule;
  for (const Rule& rule : spec_.rules) verdicts_.push_back(rule.verdict);
  classifier_ = std::make_unique<const Classifier>(spec_.rules);
}

Policy::~Policy() = default;

Verdict Policy::classify(const SynInfo& syn) const noexcept {
  const uint16_t rule = classifier_->match(syn);
  return rule == kDefaultRule ? spec_.fallback : verdicts_[rule];
}

Address Policy::subscriber_of(const Address& source) const noexcept {
  if (source.is_v4()) return source;
  Address subscriber = source;
  const size_t bits = spec_.limits.per_subscriber.ipv6_prefix;
  for (size_t i = 0; i < subscriber.bytes.size(); ++i) {
    const size_t kept = bits > i * 8 ? std::min<size_t>(bits - i * 8, 8) : 0;
    subscriber.bytes[i] = static_cast<uint8_t>(subscriber.bytes[i] & (0xff00u >> kept));
  }
  return subscriber;
}

std::string_view Policy::rule_name(uint16_t rule) const noexcept {
  return rule < spec_.rules.size() ? std::string_view(spec_.rules[rule].name) : "default";
}

}  // namespace synfluid::policies
