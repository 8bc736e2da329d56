// Where everything is in the memory of a PV guest of ours. Pure arithmetic: no Xen needed to compute or to
// test it.
//
//     page (pfn)                                                 mapped at virt_base + pfn * 4 KiB
//     ┌──────────────────────────────┐ 0
//     │ image: code, constants, data │    as its segments say; code is never writable, data never executable
//     │ .bss and the stack           │    cleared by the guest itself
//     ├──────────────────────────────┤ page_tables_pfn
//     │ L4, L3, L2, L1...            │    read-only, as Xen demands
//     ├──────────────────────────────┤ boot_info_pfn
//     │ start_info, then at byte     │    read-only
//     │ kP2mOffset the p2m list      │
//     ├──────────────────────────────┤ shared_area_pfn            start_info.mod_start, mod_len
//     │ card, tx ring, rx ring,      │    granted to the back end: page i under reference 8 + i
//     │ buffers                      │
//     ├──────────────────────────────┤ shared_info_pfn
//     │ (Xen's shared_info page)     │    a page number without memory of the guest's; mapped by the builder
//     ├──────────────────────────────┤ memory_pfn
//     │ working memory               │    cleared by the guest itself; its connection tables
//     ├ ─ ─ ─ ─ ─ ─ ─ ─ ─ ─ ─ ─ ─ ─ ─┤ populated_pages
//     │ more of it, claimed          │    taken from Xen, mapped and cleared by the guest when it is first
//     touched, │                              │    and so are the page tables that this takes
//     └──────────────────────────────┘ pages
//
// What is claimed is the guest's as much as what is populated: Xen sets it apart from its free memory, so
// that nobody else can have it. A guest costs the time of what it uses, not of what it may use.
//
// Threads: values. Units: pages of 4 KiB where not said otherwise. Errors: memory that cannot hold it all.
#pragma once

#include <cstdint>

#include "base/result.h"
#include "spawner/toolstack/pv_image.h"

namespace synfluid::spawner::toolstack {

/// Of the p2m list in the boot information: behind start_info, whose command line makes it 1.2 KiB long.
inline constexpr uint32_t kP2mOffset = 2048;

/// What the guest's core needs for its tables at the least (guest/platform/platform.h), in pages.
inline constexpr uint32_t kMinMemoryPages = 12;

/// Of them, populated by the builder: what one flow's tables touch.
inline constexpr uint32_t kReadyMemoryPages = 10;

/// A guest's vif works with so few buffers, slowly.
inline constexpr uint32_t kMinBuffers = 4;

/// More buffers than this help no flow; each costs a grant, a map and its share of the time to build the
/// guest.
inline constexpr uint32_t kUsualBuffers = 32;

/// The largest guest built this way: what one L2 table maps.
inline constexpr uint64_t kMaxGuestBytes = 512ull << 20;

struct GuestLayout {
  uint64_t virt_base = 0;
  uint32_t memory_pages = 0;  ///< what Xen gives the guest at the most: `pages`, and later page tables
  uint32_t pages = 0;
  uint32_t image_pages = 0;
  uint32_t page_tables_pfn = 0;
  uint32_t page_table_pages = 0;
  uint32_t boot_info_pfn = 0;
  uint32_t boot_info_pages = 0;
  uint32_t shared_area_pfn = 0;
  uint32_t shared_area_pages = 0;
  uint32_t buffers = 0;
  uint32_t rx_posted = 0;
  uint32_t shared_info_pfn = 0;
  uint32_t memory_pfn = 0;
  uint32_t populated_pages = 0;

  uint32_t ready_pages() const { return populated_pages - memory_pfn; }
  uint64_t address_of(uint32_t pfn) const { return virt_base + uint64_t{pfn} * kPageBytes; }
};

/// `buffers` 0: as many as fit well. Errors say what the image needs and what it was given.
Result<GuestLayout> lay_out_guest(const PvImage& image, uint64_t memory_bytes, uint32_t buffers);

}  // namespace synfluid::spawner::toolstack
