#include "policies/sweep.h"

#include <algorithm>

namespace synfluid::policies {

namespace {

struct Boundary {
  Key128 at;
  uint16_t rule;
  int8_t step;  ///< +1 a span of the rule begins here, -1 one ended just before
};

std::vector<Boundary> boundaries_of(std::span<const Span> spans) {
  std::vector<Boundary> boundaries;
  boundaries.reserve(spans.size() * 2);
  for (const Span& span : spans) {
    boundaries.push_back({span.first, span.rule, +1});
    if (span.last != kLastKey) boundaries.push_back({span.last + 1, span.rule, -1});
  }
  std::ranges::sort(boundaries, {}, &Boundary::at);
  return boundaries;
}

}  // namespace

std::vector<Interval> sweep(std::span<const Span> spans, RuleSets& rows) {
  std::vector<uint32_t> open(kMaxRules);  // spans of each rule that cover the present place
  RuleBits bits;
  std::vector<Interval> intervals{{0, rows.add(bits)}};
  const std::vector<Boundary> boundaries = boundaries_of(spans);
  for (size_t i = 0; i < boundaries.size();) {
    const Key128 at = boundaries[i].at;
    for (; i < boundaries.size() && boundaries[i].at == at; ++i) {
      const Boundary& b = boundaries[i];
      open[b.rule] += static_cast<uint32_t>(b.step);
      open[b.rule] != 0 ? bits.set(b.rule) : bits.clear(b.rule);
    }
    const RowRef row = rows.add(bits);
    if (at == 0) intervals.clear();
    if (intervals.empty() || intervals.back().row != row) intervals.push_back({at, row});
  }
  return intervals;
}

}  // namespace synfluid::policies
