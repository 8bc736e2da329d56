// Keeps a line that a client or guest can trigger from filling the log: a few at once, then one a second,
// each saying how many were swallowed before it.
//
// Threads: one. Units: nanoseconds of one monotonic clock.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "base/clock.h"

namespace synfluid::spawner {

class LogLimiter {
 public:
  /// Nothing: stay silent. Else log, with this text at the end: it says how many lines were swallowed since
  /// the last.
  std::optional<std::string> admit(int64_t now_ns) {
    if (now_ns - last_refill_ns_ >= kNsPerSecond) {
      tokens_ = tokens_ < kBurst ? tokens_ + 1 : kBurst;
      last_refill_ns_ = now_ns;
    }
    if (tokens_ == 0) {
      ++swallowed_;
      return std::nullopt;
    }
    --tokens_;
    const uint64_t swallowed = swallowed_;
    swallowed_ = 0;
    if (swallowed == 0) return "";
    return " (" + std::to_string(swallowed) + " such lines left out)";
  }

 private:
  static constexpr uint32_t kBurst = 5;
  uint32_t tokens_ = kBurst;
  int64_t last_refill_ns_ = 0;
  uint64_t swallowed_ = 0;
};

}  // namespace synfluid::spawner
