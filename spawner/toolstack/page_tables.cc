#include "spawner/toolstack/page_tables.h"

#include <algorithm>

#include "spawner/page_moves.h"

namespace synfluid::spawner::toolstack {

namespace {

constexpr int kPageShift = 12;
constexpr int kIndexBits = 9;

/// For L4 to L2 entries: what may be done is decided in L1.
constexpr uint64_t kTableFlags = kPtePresent | kPteWritable | kPteUser | kPteAccessed | kPteDirty;
constexpr uint64_t kReadOnly = kPtePresent | kPteUser | kPteAccessed | kPteDirty | kPteNoExecute;
constexpr uint64_t kReadWrite = kReadOnly | kPteWritable;
constexpr uint64_t kExecute = kReadOnly & ~kPteNoExecute;

uint32_t index_at(uint64_t address, int level) {
  return static_cast<uint32_t>(address >> (kPageShift + kIndexBits * (level - 1))) & (kTableEntries - 1);
}

uint64_t flags_of(PageAccess access) {
  switch (access) {
    case PageAccess::kReadOnly:
      return kReadOnly;
    case PageAccess::kReadWrite:
      return kReadWrite;
    case PageAccess::kExecute:
      return kExecute;
  }
  return 0;
}

/// Flags of every page's L1 entry, the shared info page's last; 0 where nothing is mapped.
std::vector<uint64_t> page_flags(const PvImage& image, const GuestLayout& layout) {
  std::vector<uint64_t> flags(layout.pages + 1, kReadWrite);
  std::fill_n(flags.begin(), layout.image_pages, uint64_t{0});
  for (const ImageSegment& segment : image.segments) {
    std::fill_n(flags.begin() + segment.first_page, segment.pages, flags_of(segment.access));
  }
  std::fill_n(flags.begin() + layout.page_tables_pfn, layout.page_table_pages, kReadOnly);
  std::fill_n(flags.begin() + layout.boot_info_pfn, layout.boot_info_pages, kReadOnly);
  return flags;
}

std::vector<TableTemplate> make_l1_tables(const std::vector<uint64_t>& flags, uint64_t virt_base) {
  std::vector<TableTemplate> tables;
  for (uint32_t pfn = 0; pfn < flags.size(); ++pfn) {
    const uint32_t index = index_at(virt_base + uint64_t{pfn} * kPageBytes, 1);
    if (tables.empty() || index == 0) tables.push_back({.first = index, .entries = {}});
    tables.back().entries.push_back({.pfn = pfn, .flags = flags[pfn]});
  }
  return tables;
}

}  // namespace

PageTableTemplate make_page_tables(const PvImage& image, const GuestLayout& layout) {
  const uint64_t base = layout.virt_base;
  const uint32_t l4 = layout.page_tables_pfn;
  const uint32_t first_l1 = l4 + 3;
  PageTableTemplate tables;
  tables.push_back({.first = index_at(base, 4), .entries = {{.pfn = l4 + 1, .flags = kTableFlags}}});
  tables.push_back({.first = index_at(base, 3), .entries = {{.pfn = l4 + 2, .flags = kTableFlags}}});
  tables.push_back({.first = index_at(base, 2), .entries = {}});
  for (TableTemplate& l1 : make_l1_tables(page_flags(image, layout), base)) tables.push_back(std::move(l1));
  for (uint32_t pfn = first_l1; pfn < l4 + tables.size(); ++pfn) {
    tables[2].entries.push_back({.pfn = pfn, .flags = kTableFlags});
  }
  return tables;
}

void write_table(const TableTemplate& table, std::span<const uint64_t> frames,
                 std::span<uint64_t, kTableEntries> into) {
  const auto used = into.subspan(table.first, table.entries.size());
  clear_pages(std::as_writable_bytes(into));
  std::transform(table.entries.begin(), table.entries.end(), used.begin(),
                 [&](const TableTemplate::Entry& entry) {
                   return entry.flags == 0 ? 0 : (frames[entry.pfn] << kPageShift) | entry.flags;
                 });
}

}  // namespace synfluid::spawner::toolstack
