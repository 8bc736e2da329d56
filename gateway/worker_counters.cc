#include "gateway/worker_counters.h"

#include <algorithm>
#include <bit>

namespace synfluid::gateway {

void LatencyHistogram::add(int64_t ns) noexcept {
  const auto value = static_cast<uint64_t>(std::max<int64_t>(ns, 4));
  const auto power = static_cast<size_t>(std::bit_width(value)) - 1;
  steps_[power * 4 + ((value >> (power - 2)) & 3)].add();
  count_.add();
  if (value > max_.get()) max_.set(value);
}

int64_t LatencyHistogram::quantile_ns(double quantile) const noexcept {
  const uint64_t all = count();
  if (all == 0) return 0;
  const auto wanted = std::max<uint64_t>(1, static_cast<uint64_t>(quantile * static_cast<double>(all) + 0.5));
  uint64_t seen = 0;
  for (size_t step = 0; step < kSteps; ++step) {
    seen += steps_[step].get();
    if (seen < wanted) continue;
    const size_t power = step / 4;
    const uint64_t above = (uint64_t{1} << power) + ((step % 4 + 1) << (power - 2));
    return std::min(static_cast<int64_t>(above), max_ns());
  }
  return max_ns();
}

}  // namespace synfluid::gateway
