// The scalars of the policy language: counts, sizes, durations, rates, ranges, names.
//
// Threads: reentrant. No ownership. Errors: what is wrong with the text, as a ValueFault; nothing throws.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include <tl/expected.hpp>

#include "policies/policy.h"

namespace synfluid::policies {

struct ValueFault {
  std::string what;     ///< goes behind the quoted text: "is no duration"
  std::string allowed;  ///< what could stand there instead
};

template <class T>
using Parsed = tl::expected<T, ValueFault>;

/// Both ends are allowed.
struct Bounds {
  uint64_t least;
  uint64_t most;
};

/// Decimal digits alone.
Parsed<uint64_t> parse_count(std::string_view text, Bounds bounds);

/// "65536", "512KiB", "8MiB", "1GiB": whole pages, 64KiB to 64GiB.
Parsed<uint64_t> parse_memory(std::string_view text);

/// "500us", "500ms", "10s", "5m", "2h": 1ms to 24h.
Parsed<int64_t> parse_duration(std::string_view text);

/// "2000/s", "20/10s", "100/m".
Parsed<Rate> parse_rate(std::string_view text);

/// "80" or "8000-8100". `example` is a range for those who wrote none.
Parsed<Range> parse_range(std::string_view text, Bounds bounds, std::string_view example);

/// Letters, digits, '-', '_' and '.', beginning with a letter or digit, up to 63 of them.
Parsed<std::string> parse_name(std::string_view text);

/// A DNS name, or "*." and a DNS name; in lower case and without a final dot afterwards.
Parsed<std::string> parse_host_pattern(std::string_view text);

/// An address block, with advice where bits behind its length are set.
Parsed<Prefix> parse_prefix(std::string_view text);

}  // namespace synfluid::policies
