// A counter with one writer, read from any thread without asking.
#pragma once

#include <atomic>
#include <cstdint>

namespace synfluid::gateway {

class Counter {
 public:
  /// The owner's alone: a load and a store, no locked instruction.
  void add(uint64_t n = 1) noexcept {
    value_.store(value_.load(std::memory_order_relaxed) + n, std::memory_order_relaxed);
  }
  void subtract(uint64_t n = 1) noexcept { add(uint64_t{0} - n); }
  void set(uint64_t n) noexcept { value_.store(n, std::memory_order_relaxed); }
  uint64_t get() const noexcept { return value_.load(std::memory_order_relaxed); }

 private:
  std::atomic<uint64_t> value_{0};
};

}  // namespace synfluid::gateway
