// The page tables of a PV guest of ours: a template per service, and one pass that puts a guest's frames in.
//
// A template's entries hold pseudo-physical page numbers where the real ones hold machine frames;
// `frames[pfn]` turns one into the other, Xen's shared info page included. Pages that are claimed have no
// entry, and some no table: the guest sees to that. Every table page itself is mapped read-only, as Xen
// demands of pinned tables.
//
// Threads: values and pure functions. Source: Intel SDM volume 3, 4-level paging; Xen's PV rules on table
// pages.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "spawner/toolstack/layout.h"

namespace synfluid::spawner::toolstack {

inline constexpr uint64_t kPtePresent = 1ull << 0;
inline constexpr uint64_t kPteWritable = 1ull << 1;
inline constexpr uint64_t kPteUser = 1ull << 2;
inline constexpr uint64_t kPteAccessed = 1ull << 5;
inline constexpr uint64_t kPteDirty = 1ull << 6;
inline constexpr uint64_t kPteNoExecute = 1ull << 63;

inline constexpr size_t kTableEntries = kPageBytes / sizeof(uint64_t);

/// One table: its entries in use, the others are empty.
struct TableTemplate {
  struct Entry {
    uint32_t index = 0;
    uint32_t pfn = 0;  ///< of what it points to
    uint64_t flags = 0;
  };
  std::vector<Entry> entries;
};

/// In the order of their pages: L4, L3, L2, then the L1 tables by address.
using PageTableTemplate = std::vector<TableTemplate>;

PageTableTemplate make_page_tables(const PvImage& image, const GuestLayout& layout);

/// Writes one table for a guest whose page `pfn` is machine frame frames[pfn].
void write_table(const TableTemplate& table, std::span<const uint64_t> frames,
                 std::span<uint64_t, kTableEntries> into);

}  // namespace synfluid::spawner::toolstack
