// Where time comes from. Everything that waits or ages takes a Clock, so that tests never sleep.
//
// Units: nanoseconds from an arbitrary start, monotonic. Threads: now_ns() may be called from any thread.
#pragma once

#include <atomic>
#include <cstdint>

#include <time.h>

namespace synfluid {

inline constexpr int64_t kNsPerUs = 1'000;
inline constexpr int64_t kNsPerMs = 1'000'000;
inline constexpr int64_t kNsPerSecond = 1'000'000'000;

class Clock {
 public:
  virtual ~Clock() = default;
  virtual int64_t now_ns() const noexcept = 0;
};

/// CLOCK_MONOTONIC, by the vDSO: no system call.
class SteadyClock final : public Clock {
 public:
  int64_t now_ns() const noexcept override {
    timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return ts.tv_sec * kNsPerSecond + ts.tv_nsec;
  }
};

/// Stands still until it is told to move.
class ManualClock final : public Clock {
 public:
  explicit ManualClock(int64_t start_ns = 0) : now_ns_(start_ns) {}
  int64_t now_ns() const noexcept override { return now_ns_.load(std::memory_order_acquire); }
  void advance(int64_t ns) { now_ns_.fetch_add(ns, std::memory_order_acq_rel); }

 private:
  std::atomic<int64_t> now_ns_;
};

}  // namespace synfluid
