#include "bench/instruction_clock.h"

#include <algorithm>
#include <cstdint>
#include <limits>

#include "base/clock.h"

namespace synfluid::bench {

namespace {

constexpr int kTries = 10;

/// Short against a tick of the kernel's, so that some try is interrupted by nothing.
constexpr uint64_t kTurns = 20'000;

/// Reading the clock twice takes some hundred instructions.
constexpr double kTolerance = 0.02;

/// The fastest of some tries: an interrupt makes a loop longer, nothing makes it shorter.
template <class Loop>
double ns_per_instruction(uint64_t instructions_per_turn, Loop loop) {
  const SteadyClock clock;
  int64_t fastest = std::numeric_limits<int64_t>::max();
  for (int i = 0; i < kTries; ++i) {
    const int64_t start = clock.now_ns();
    loop(kTurns);
    fastest = std::min(fastest, clock.now_ns() - start);
  }
  return static_cast<double>(fastest) / static_cast<double>(kTurns * instructions_per_turn);
}

double of_jumps() {
  return ns_per_instruction(2, [](uint64_t turns) {
    asm volatile("1: dec %0; jnz 1b" : "+r"(turns) : : "cc");
  });
}

double of_other_work() {
  return ns_per_instruction(8, [](uint64_t turns) {
    uint64_t value = 1;
    asm volatile("1: imul %0, %1; nop; nop; xor %0, %1; nop; imul %0, %1; dec %0; jnz 1b"
                 : "+r"(turns), "+r"(value)
                 :
                 : "cc");
  });
}

bool is_one(double ns) {
  return ns > 1 - kTolerance && ns < 1 + kTolerance;
}

}  // namespace

ClockKind detect_clock() {
  return is_one(of_jumps()) && is_one(of_other_work()) ? ClockKind::kInstructions : ClockKind::kWall;
}

}  // namespace synfluid::bench
