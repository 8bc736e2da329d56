// What a FlowTable counts. The owner writes, any thread reads, nobody waits.
//
// One writer, so a counter is a relaxed load and a relaxed store: no locked instruction.
#pragma once

#include <atomic>
#include <cstdint>

namespace synfluid::flowtable {

/// A copy, taken counter by counter while the owner goes on.
struct TableStats {
  uint64_t size = 0;       ///< flows now
  uint64_t inserted = 0;   ///< flows added since the start
  uint64_t erased = 0;     ///< flows erased since the start
  uint64_t expired = 0;    ///< times that expire() reported a flow
  uint64_t rearmed = 0;    ///< timers that came due for a flow that had been active meanwhile
  uint64_t displaced = 0;  ///< flows added that found their home bucket full
  uint64_t full = 0;       ///< flows refused because every bucket they may lie in was full
};

class Counter {
 public:
  void add(uint64_t n) noexcept { value_.store(load() + n, std::memory_order_relaxed); }
  void subtract(uint64_t n) noexcept { value_.store(load() - n, std::memory_order_relaxed); }
  uint64_t load(std::memory_order order = std::memory_order_relaxed) const noexcept {
    return value_.load(order);
  }

 private:
  std::atomic<uint64_t> value_{0};
};

struct TableCounters {
  Counter size;
  Counter inserted;
  Counter erased;
  Counter expired;
  Counter rearmed;
  Counter displaced;
  Counter full;

  TableStats read() const noexcept {
    return {.size = size.load(),
            .inserted = inserted.load(),
            .erased = erased.load(),
            .expired = expired.load(),
            .rearmed = rearmed.load(),
            .displaced = displaced.load(),
            .full = full.load()};
  }
};

}  // namespace synfluid::flowtable
