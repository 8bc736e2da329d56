// Zeroed memory straight from the kernel, on huge pages where there are any.
//
// Threads: a value, moved not copied. Ownership: unmapped when its owner goes. Units: bytes.
#pragma once

#include <cstddef>
#include <cstdint>
#include <utility>

#include "base/result.h"

namespace synfluid::flowtable {

/// What a FlowTable's memory should lie on.
enum class PageSize : uint8_t {
  kNormal,
  kHuge,  ///< reserved huge pages (hugetlbfs), else transparent ones, else normal pages
};

class Pages {
 public:
  static Result<Pages> map(size_t bytes, PageSize wanted);

  Pages(Pages&& other) noexcept
      : base_(std::exchange(other.base_, nullptr)), size_(other.size_), page_size_(other.page_size_) {}
  Pages& operator=(Pages&&) = delete;
  ~Pages();

  std::byte* data() const { return base_; }
  size_t size() const { return size_; }
  /// kHuge if reserved pages were there, or if the kernel took the advice to use transparent ones.
  PageSize page_size() const { return page_size_; }

 private:
  Pages(std::byte* base, size_t size, PageSize page_size) : base_(base), size_(size), page_size_(page_size) {}

  std::byte* base_;
  size_t size_;
  PageSize page_size_;
};

}  // namespace synfluid::flowtable
