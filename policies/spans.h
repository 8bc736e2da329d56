// A rule's condition on one field, as ranges of numbers.
//
// Values: no threads, no ownership. Only while a policy is built.
#pragma once

#include <optional>
#include <span>
#include <vector>

#include "policies/key128.h"
#include "policies/policy.h"

namespace synfluid::policies {

/// Both ends belong to it. The spans of one rule may touch and overlap.
struct Span {
  Key128 first = 0;
  Key128 last = kLastKey;
  uint16_t rule = 0;
};

using Spans = std::vector<Span>;

/// Each adds what the condition of one rule holds on; an empty condition holds on everything.
void add_prefixes(Spans& spans, std::span<const Prefix> prefixes, uint16_t rule);
void add_ranges(Spans& spans, std::span<const Range> ranges, uint16_t rule);

std::span<const Range> as_span(const std::optional<Range>& range);

/// The same numbers in sorted spans that neither touch nor overlap; rules are forgotten.
Spans merged(Spans spans);

/// Is each number of `inner` in one of `outer`? Both merged.
bool covers(const Spans& outer, const Spans& inner);

}  // namespace synfluid::policies
