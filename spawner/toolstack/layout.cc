#include "spawner/toolstack/layout.h"

#include <algorithm>

#include <fmt/format.h>

#include "base/abi/card.h"

namespace synfluid::spawner::toolstack {

namespace {

constexpr uint64_t kL1Span = 512 * kPageBytes;
constexpr uint64_t kL2Span = 512 * kL1Span;
constexpr uint32_t kUpperTables = 3;

uint32_t ceil_div(uint64_t value, uint64_t by) {
  return static_cast<uint32_t>((value + by - 1) / by);
}

/// L1 tables for [base, base + (pages + 1) * 4 KiB): the guest and the shared info page.
uint32_t l1_tables(uint64_t base, uint32_t pages) {
  const uint64_t end = base + (uint64_t{pages} + 1) * kPageBytes;
  return static_cast<uint32_t>((end - 1) / kL1Span - base / kL1Span + 1);
}

bool fits_one_l2(uint64_t base, uint32_t pages) {
  const uint64_t last = base + uint64_t{pages} * kPageBytes;
  return base <= last && base / kL2Span == last / kL2Span;
}

/// Half of what is left goes to the buffers, half to the tables.
uint32_t usual_buffers(uint32_t left) {
  return std::clamp(left / 2, kMinBuffers, kUsualBuffers);
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
  layout.pages = static_cast<uint32_t>(memory_bytes / kPageBytes);
  if (!fits_one_l2(image.virt_base, layout.pages)) {
    return Error(ErrorCode::kInvalidArgument,
                 fmt::format("no guest can be placed at {:#x}", image.virt_base));
  }
  layout.image_pages = image.pages;
  layout.page_tables_pfn = image.pages;
  layout.page_table_pages = kUpperTables + l1_tables(image.virt_base, layout.pages);
  layout.boot_info_pfn = layout.page_tables_pfn + layout.page_table_pages;
  layout.boot_info_pages = ceil_div(kP2mOffset + uint64_t{layout.pages} * sizeof(uint64_t), kPageBytes);
  layout.shared_area_pfn = layout.boot_info_pfn + layout.boot_info_pages;

  const uint32_t fixed = layout.shared_area_pfn + abi::kFirstBufferPage + kMinMemoryPages;
  const uint32_t needed = fixed + std::max(buffers, kMinBuffers);
  if (needed > layout.pages) {
    return Error(ErrorCode::kInvalidArgument, fmt::format("needs {} KiB of memory, has {}",
                                                          needed * kPageBytes >> 10, memory_bytes >> 10));
  }
  layout.buffers = buffers != 0 ? buffers : usual_buffers(layout.pages - fixed);
  layout.rx_posted = layout.buffers / 2;
  layout.shared_area_pages = abi::shared_pages(layout.buffers);
  layout.memory_pfn = layout.shared_area_pfn + layout.shared_area_pages;
  return layout;
}

}  // namespace synfluid::spawner::toolstack
