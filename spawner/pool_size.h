// How many ready VMs a service's pool should hold: as many as were asked for in the busiest recent second,
// within the operator's {min, max}.
//
// It rises at once, with every request, and sinks by a quarter a second when fewer are asked for.
// Threads: one. Units: nanoseconds of one monotonic clock.
#pragma once

#include <algorithm>
#include <cstdint>

#include "base/clock.h"
#include "policies/policy.h"

namespace synfluid::spawner {

class PoolSize {
 public:
  PoolSize(policies::Service::Pool limits, int64_t now_ns)
      : limits_(limits), window_start_ns_(now_ns), target_(limits.min) {}

  void asked(int64_t now_ns) {
    roll(now_ns);
    if (asked_ < limits_.max) ++asked_;
    target_ = std::max(target_, std::clamp(asked_, limits_.min, limits_.max));
  }

  uint32_t target(int64_t now_ns) {
    roll(now_ns);
    return target_;
  }

  /// When the target may sink next; meaningful while it is above the minimum.
  int64_t next_change_ns() const { return window_start_ns_ + kNsPerSecond; }
  bool at_minimum() const { return target_ <= limits_.min; }

 private:
  void roll(int64_t now_ns) {
    // After so many quiet seconds every target is down at its minimum.
    constexpr int kEnough = 64;
    for (int i = 0; i < kEnough && now_ns - window_start_ns_ >= kNsPerSecond; ++i) {
      const uint32_t sunk = target_ - (target_ + 3) / 4;
      target_ = std::clamp(std::max(sunk, asked_), limits_.min, limits_.max);
      asked_ = 0;
      window_start_ns_ += kNsPerSecond;
    }
    if (now_ns - window_start_ns_ >= kNsPerSecond) window_start_ns_ = now_ns;
  }

  const policies::Service::Pool limits_;
  int64_t window_start_ns_;
  uint32_t target_;
  uint32_t asked_ = 0;
};

}  // namespace synfluid::spawner
