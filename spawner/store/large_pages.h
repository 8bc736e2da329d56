// Memory for tables that are looked into at random: from kLargePage on it is aligned to, and asked for in,
// large pages. Then a look costs a cache miss, not one of the address translation too. Where there are none
// (a paravirtualised dom0), it is memory like any other.
//
// Threads: any. Ownership: large_pages() is given back with std::free(). Errors: std::bad_alloc.
#pragma once

#include <cstddef>
#include <cstdlib>
#include <new>

#include <sys/mman.h>

namespace synfluid::spawner::store {

inline constexpr size_t kLargePage = 2 << 20;

inline void* large_pages(size_t bytes) {
  const size_t whole = (bytes + kLargePage - 1) / kLargePage * kLargePage;
  void* memory = std::aligned_alloc(kLargePage, whole);
  if (memory == nullptr) throw std::bad_alloc();
  (void)::madvise(memory, whole, MADV_HUGEPAGE);
  return memory;
}

/// For a container that may grow large.
template <class T>
struct LargePageAllocator {
  using value_type = T;
  LargePageAllocator() = default;
  template <class U>
  explicit LargePageAllocator(const LargePageAllocator<U>&) {}

  T* allocate(size_t count) {
    const size_t bytes = count * sizeof(T);
    void* memory = bytes < kLargePage ? std::malloc(bytes) : large_pages(bytes);
    if (memory == nullptr) throw std::bad_alloc();
    return static_cast<T*>(memory);
  }
  void deallocate(T* memory, size_t) { std::free(memory); }
  bool operator==(const LargePageAllocator&) const = default;
};

}  // namespace synfluid::spawner::store
