// load_text() on any bytes: it gives a policy or a reason, the reason is one line with a place, and a
// policy's classifier agrees with asking each rule in turn.
#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <span>

#include "policies/loader.h"

namespace {

using namespace synfluid;            // NOLINT: a test program
using namespace synfluid::policies;  // NOLINT

void require(bool holds) {
  if (!holds) std::abort();
}

void check_reasons(std::span<const Diagnostic> reasons) {
  require(std::ranges::any_of(reasons, [](const Diagnostic& d) { return d.severity == Severity::kError; }));
  for (const Diagnostic& reason : reasons) {
    require(!reason.text.empty() && reason.line >= 0 && reason.column >= 0);
    require(reason.to_string().find('\n') == std::string::npos);
  }
}

/// A SYN at the edge of what a rule matches.
SynInfo syn_at(const Match& match) {
  SynInfo syn;
  if (!match.subscribers.empty()) syn.source = match.subscribers.back().address;
  if (!match.destinations.empty()) syn.destination = match.destinations.back().address;
  if (!match.destination_ports.empty()) syn.destination_port = match.destination_ports.back().last;
  if (match.vlan_outer) syn.vlan.outer = match.vlan_outer->last;
  if (match.vlan_inner) syn.vlan.inner = match.vlan_inner->last;
  return syn;
}

uint16_t first_match(const Policy& policy, const SynInfo& syn) {
  const auto it = std::ranges::find_if(policy.rules(), [&](const Rule& rule) { return rule.matches(syn); });
  return it == policy.rules().end() ? kDefaultRule : static_cast<uint16_t>(it - policy.rules().begin());
}

void check_policy(const Policy& policy) {
  for (const Rule& rule : policy.rules()) {
    SynInfo syn = syn_at(rule.match);
    require(rule.matches(syn));
    for (int step = 0; step < 2; ++step, ++syn.destination.bytes[15], --syn.source.bytes[15]) {
      const Verdict verdict = policy.classify(syn);
      require(verdict.rule == first_match(policy, syn));
      require(verdict.kind != Verdict::Kind::kService || verdict.service < policy.services().size());
    }
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string text(reinterpret_cast<const char*>(data), size);
  const LoadResult loaded = load_text(text, "policy.yaml");
  if (!loaded) {
    check_reasons(loaded.error());
  } else {
    check_policy(**loaded);
  }
  return 0;
}
