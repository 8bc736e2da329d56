// A bounded lock-free ring between one producer thread and one consumer thread; items may be move-only.
//
// Invariants: `head_` is written by the consumer alone, `tail_` by the producer alone; both only grow (modulo
// 2^32); 0 <= tail_ - head_ <= capacity. Slots head_ .. tail_-1 are the consumer's, the others the
// producer's. An index is published with release after its slot was filled or emptied, and read by the other
// side with acquire before the slot is touched. Each side keeps the other's index as it last saw it and looks
// again only when the ring seems full or empty.
//
// Threads: push() and free_slots() from the producer, pop() and empty() from the consumer. Neither ever
// waits. Memory: all slots are allocated at construction; a popped slot is left as a moved-from T.
#pragma once

#include <atomic>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <utility>

namespace synfluid::spawner {

template <class T>
class SpscRing {
 public:
  /// `capacity` is rounded up to a power of two.
  explicit SpscRing(uint32_t capacity)
      : mask_(std::bit_ceil(capacity) - 1), slots_(std::make_unique<T[]>(size_t{mask_} + 1)) {}

  uint32_t capacity() const { return mask_ + 1; }

  /// False when the ring is full: `item` is then untouched.
  bool push(T&& item) {
    const uint32_t tail = tail_.load(std::memory_order_relaxed);
    if (tail - head_seen_ > mask_) head_seen_ = head_.load(std::memory_order_acquire);
    if (tail - head_seen_ > mask_) return false;
    slots_[tail & mask_] = std::move(item);
    tail_.store(tail + 1, std::memory_order_release);
    return true;
  }

  uint32_t free_slots() {
    head_seen_ = head_.load(std::memory_order_acquire);
    return capacity() - (tail_.load(std::memory_order_relaxed) - head_seen_);
  }

  std::optional<T> pop() {
    if (empty()) return std::nullopt;
    const uint32_t head = head_.load(std::memory_order_relaxed);
    std::optional<T> item(std::move(slots_[head & mask_]));
    head_.store(head + 1, std::memory_order_release);
    return item;
  }

  bool empty() {
    const uint32_t head = head_.load(std::memory_order_relaxed);
    if (head == tail_seen_) tail_seen_ = tail_.load(std::memory_order_acquire);
    return head == tail_seen_;
  }

 private:
  const uint32_t mask_;
  const std::unique_ptr<T[]> slots_;
  alignas(64) std::atomic<uint32_t> tail_{0};  // producer
  uint32_t head_seen_ = 0;                     // producer
  alignas(64) std::atomic<uint32_t> head_{0};  // consumer
  uint32_t tail_seen_ = 0;                     // consumer
};

}  // namespace synfluid::spawner
