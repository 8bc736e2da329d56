#include "bench/instruction_clock.h"

#include <cstdint>

#include "base/clock.h"

namespace synfluid::bench {

namespace {

constexpr uint64_t kTurns = 500'000;
constexpr uint64_t kInstructionsPerTurn = 2;
constexpr int kTries = 5;

/// An interrupt or two may fall into a loop.
constexpr double kTolerance = 0.05;

double ns_per_instruction() {
  const SteadyClock clock;
  const int64_t start = clock.now_ns();
  uint64_t turns = kTurns;
  asm volatile("1: dec %0; jnz 1b" : "+r"(turns) : : "cc");
  return static_cast<double>(clock.now_ns() - start) / static_cast<double>(kTurns * kInstructionsPerTurn);
}

}  // namespace

ClockKind detect_clock() {
  for (int i = 0; i < kTries; ++i) {
    const double ns = ns_per_instruction();
    if (ns < 1 - kTolerance || ns > 1 + kTolerance) return ClockKind::kWall;
  }
  return ClockKind::kInstructions;
}

}  // namespace synfluid::bench
