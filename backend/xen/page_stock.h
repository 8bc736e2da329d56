// How many of the kernel's pages to map grants at are in use, and when to have it make more.
//
// A grant is mapped at a page that has no memory of its own. Linux makes 32,768 of them when they run out,
// within the call that wanted one: 62 ms by the instruction clock, for the one guest in thousands that it
// hits. It keeps every page that it ever made, so whoever asks early for more than there are in use, and
// gives them back at once, has them made off the path.
//
// Threads: take() and give_back() from any, the rest from one. Ownership: a count; the pages are the
// kernel's. Source: Linux, drivers/xen/unpopulated-alloc.c.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstdint>

namespace synfluid::backend::xen {

class PageStock {
 public:
  /// What 1,024 small guests take (the event channels that are open for guests to come), and some.
  static constexpr uint32_t kAhead = 16'384;

  void take(uint32_t pages) noexcept { in_use_.fetch_add(pages, std::memory_order_relaxed); }
  void give_back(uint32_t pages) noexcept { in_use_.fetch_sub(pages, std::memory_order_relaxed); }

  /// True if kAhead free pages should be asked for: less than half as many are known to be there.
  bool is_low() const noexcept { return in_use() + kAhead / 2 > made_; }
  /// They were asked for. If in vain, the kernel is not pressed: half of kAhead later is soon enough.
  void asked() noexcept { made_ = std::max(made_, in_use() + kAhead); }

 private:
  uint32_t in_use() const noexcept { return in_use_.load(std::memory_order_relaxed); }

  std::atomic<uint32_t> in_use_ = 0;
  uint32_t made_ = 0;  ///< of the one thread that asks
};

}  // namespace synfluid::backend::xen
