// A counter with one writer that anybody may read.
//
// Threads: add() is the owner's alone; get() may be called from any thread, and sees some recent value. The
// writer pays a plain load, add and store: no locked instruction.
#pragma once

#include <atomic>
#include <cstdint>

namespace synfluid::backend {

class Counter {
 public:
  void add(uint64_t n = 1) noexcept { value_.store(get() + n, std::memory_order_relaxed); }
  uint64_t get() const noexcept { return value_.load(std::memory_order_relaxed); }

 private:
  std::atomic<uint64_t> value_{0};
};

}  // namespace synfluid::backend
