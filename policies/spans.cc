#include "policies/spans.h"

#include <algorithm>

namespace synfluid::policies {

void add_prefixes(Spans& spans, std::span<const Prefix> prefixes, uint16_t rule) {
  if (prefixes.empty()) spans.push_back({.rule = rule});
  for (const Prefix& prefix : prefixes) {
    const Key128 first = to_key(prefix.address);
    const Key128 last = last_key(prefix);
    const bool around_v4 = prefix.length < kV4PrefixBits && first <= kFirstV4 && last >= kLastV4;
    if (!around_v4) {
      spans.push_back({first, last, rule});
      continue;
    }
    if (first < kFirstV4) spans.push_back({first, kFirstV4 - 1, rule});
    if (last > kLastV4) spans.push_back({kLastV4 + 1, last, rule});
  }
}

void add_ranges(Spans& spans, std::span<const Range> ranges, uint16_t rule) {
  if (ranges.empty()) spans.push_back({.rule = rule});
  for (const Range& range : ranges) spans.push_back({range.first, range.last, rule});
}

std::span<const Range> as_span(const std::optional<Range>& range) {
  return range ? std::span<const Range>(&*range, 1) : std::span<const Range>();
}

Spans merged(Spans spans) {
  std::ranges::sort(spans, {}, &Span::first);
  Spans result;
  for (const Span& span : spans) {
    const bool joins =
        !result.empty() && (result.back().last == kLastKey || span.first <= result.back().last + 1);
    if (joins) {
      result.back().last = std::max(result.back().last, span.last);
    } else {
      result.push_back({span.first, span.last, 0});
    }
  }
  return result;
}

bool covers(const Spans& outer, const Spans& inner) {
  const auto covered = [&](const Span& span) {
    const auto behind = std::ranges::upper_bound(outer, span.first, {}, &Span::first);
    return behind != outer.begin() && (behind - 1)->last >= span.last;
  };
  return std::ranges::all_of(inner, covered);
}

}  // namespace synfluid::policies
