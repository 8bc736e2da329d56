#include "spawner/toolstack/layout.h"

#include <algorithm>

#include <fmt/format.h>

#include "base/abi/card.h"

namespace synfluid::spawner::toolstack {

namespace {

constexpr uint64_t kL1Span = 512 * kPageBytes;
constexpr uint64_t kL2Span = 512 * kL1Span;
constexpr uint32_t kUpperTables = 3;
constexpr uint32_t kSharedInfoPages = 1;

/// L1 tables for so many pages from `base` on.
uint32_t l1_tables(uint64_t base, uint32_t pages) {
  return static_cast<uint32_t>((base + uint64_t{pages} * kPageBytes - 1) / kL1Span - base / kL1Span + 1);
}

bool fits_one_l2(uint64_t base, uint32_t pages) {
  const uint64_t last = base + uint64_t{pages} * kPageBytes;
  return base <= last && base / kL2Span == last / kL2Span;
}

/// A third of what is left goes to the buffers, the rest to the tables.
uint32_t usual_buffers(uint32_t left) {
  return std::clamp(left / 3, kMinBuffers, kUsualBuffers);
}

/// The pages that describe those that are populated, themselves included.
struct Overhead {
  uint32_t l1_tables = 1;
  uint32_t boot_info_pages = 1;
};

/// `others`: all other pages that are populated, or will be at the most.
Overhead overhead_of(uint64_t base, uint32_t others) {
  Overhead overhead;
  for (;;) {
    const uint32_t pages = others + overhead.l1_tables + overhead.boot_info_pages;
    if (overhead.l1_tables < l1_tables(base, pages))
      ++overhead.l1_tables;
    else if (kP2mOffset + uint64_t{pages} * sizeof(uint64_t) > overhead.boot_info_pages * kPageBytes)
      ++overhead.boot_info_pages;
    else
      return overhead;
  }
}

}  // namespace

Result<GuestLayout> lay_out_guest(const PvImage& image, uint64_t memory_bytes, uint32_t buffers) {
  if (memory_bytes > kMaxGuestBytes) {
    return Error(ErrorCode::kInvalidArgument,
                 fmt::format("memory of {} MiB is more than the {} MiB a guest may have", memory_bytes >> 20,
                             kMaxGuestBytes >> 20));
  }
  if (buffers > abi::kMaxBuffers || (buffers != 0 && buffers < kMinBuffers)) {
    return Error(ErrorCode::kInvalidArgument, fmt::format("{} buffers: from {} to {} are possible", buffers,
                                                          kMinBuffers, abi::kMaxBuffers));
  }
  GuestLayout layout;
  layout.virt_base = image.virt_base;
  layout.memory_pages = static_cast<uint32_t>(memory_bytes / kPageBytes);
  if (!fits_one_l2(image.virt_base, layout.memory_pages)) {
    return Error(ErrorCode::kInvalidArgument,
                 fmt::format("no guest can be placed at {:#x}", image.virt_base));
  }
  const uint32_t area = abi::shared_pages(buffers != 0 ? buffers : kUsualBuffers);
  const Overhead overhead =
      overhead_of(image.virt_base, image.pages + kUpperTables + area + kSharedInfoPages + kReadyMemoryPages);
  layout.image_pages = image.pages;
  layout.page_tables_pfn = image.pages;
  layout.page_table_pages = kUpperTables + overhead.l1_tables;
  layout.boot_info_pfn = layout.page_tables_pfn + layout.page_table_pages;
  layout.boot_info_pages = overhead.boot_info_pages;
  layout.shared_area_pfn = layout.boot_info_pfn + layout.boot_info_pages;

  const uint32_t fixed = layout.shared_area_pfn + abi::kFirstBufferPage + kMinMemoryPages;
  const uint32_t needed = fixed + std::max(buffers, kMinBuffers);
  if (needed > layout.memory_pages) {
    return Error(ErrorCode::kInvalidArgument, fmt::format("needs {} KiB of memory, has {}",
                                                          needed * kPageBytes >> 10, memory_bytes >> 10));
  }
  const uint32_t all_tables = l1_tables(image.virt_base, layout.memory_pages + kSharedInfoPages);
  layout.pages =
      layout.memory_pages + kSharedInfoPages - (all_tables - std::min(all_tables, overhead.l1_tables));
  layout.buffers = buffers != 0 ? buffers : usual_buffers(layout.memory_pages - fixed);
  layout.rx_posted = layout.buffers / 2;
  layout.shared_area_pages = abi::shared_pages(layout.buffers);
  layout.shared_info_pfn = layout.shared_area_pfn + layout.shared_area_pages;
  layout.memory_pfn = layout.shared_info_pfn + kSharedInfoPages;
  layout.populated_pages = std::min(layout.pages, layout.memory_pfn + kReadyMemoryPages);
  return layout;
}

}  // namespace synfluid::spawner::toolstack
