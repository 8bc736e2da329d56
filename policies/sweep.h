// From "rule r holds on [first, last]" to "from here on, this set of rules holds": one pass over all
// boundaries of a field.
//
// Threads: none. Ownership: values. Only while a classifier is built.
#pragma once

#include <span>
#include <vector>

#include "policies/key128.h"
#include "policies/rule_sets.h"
#include "policies/spans.h"

namespace synfluid::policies {

/// The rules of `row` hold from `first` up to the next interval's first.
struct Interval {
  Key128 first = 0;
  RowRef row = 0;
};

/// Sorted, starting at 0, neighbours with different rows.
std::vector<Interval> sweep(std::span<const Span> spans, RuleSets& rows);

}  // namespace synfluid::policies
