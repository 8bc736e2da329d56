#include "spawner/toolstack/page_tables.h"

#include <algorithm>

#include "spawner/page_moves.h"

namespace synfluid::spawner::toolstack {

namespace {

constexpr int kPageShift = 12;
constexpr int kIndexBits = 9;
constexpr uint64_t kL1Span = kTableEntries * kPageBytes;

/// L4, L3, L2.
constexpr uint32_t kUpperTables = 3;

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

/// Flags of every populated page's L1 entry; 0 where nothing is mapped.
std::vector<uint64_t> page_flags(const PvImage& image, const GuestLayout& layout) {
  std::vector<uint64_t> flags(layout.populated_pages, kReadWrite);
  std::fill_n(flags.begin(), layout.image_pages, uint64_t{0});
  for (const ImageSegment& segment : image.segments) {
    std::fill_n(flags.begin() + segment.first_page, segment.pages, flags_of(segment.access));
  }
  std::fill_n(flags.begin() + layout.page_tables_pfn, layout.page_table_pages, kReadOnly);
  std::fill_n(flags.begin() + layout.boot_info_pfn, layout.boot_info_pages, kReadOnly);
  return flags;
}

std::vector<TableTemplate> make_l1_tables(const std::vector<uint64_t>& flags, const GuestLayout& layout) {
  const uint64_t first_table = layout.virt_base / kL1Span;
  std::vector<TableTemplate> tables(layout.page_table_pages - kUpperTables);
  const auto map = [&](uint64_t address, uint32_t pfn, uint64_t access) {
    tables[address / kL1Span - first_table].entries.push_back({index_at(address, 1), pfn, access});
  };
  for (uint32_t pfn = 0; pfn < flags.size(); ++pfn)
    if (flags[pfn] != 0) map(layout.address_of(pfn), pfn, flags[pfn]);
  return tables;
}

}  // namespace

PageTableTemplate make_page_tables(const PvImage& image, const GuestLayout& layout) {
  const uint64_t base = layout.virt_base;
  const uint32_t l4 = layout.page_tables_pfn;
  PageTableTemplate tables;
  tables.push_back({{{.index = index_at(base, 4), .pfn = l4 + 1, .flags = kTableFlags}}});
  tables.push_back({{{.index = index_at(base, 3), .pfn = l4 + 2, .flags = kTableFlags}}});
  tables.push_back({});
  for (uint32_t l1 = kUpperTables; l1 < layout.page_table_pages; ++l1) {
    tables[2].entries.push_back(
        {.index = index_at(base, 2) + l1 - kUpperTables, .pfn = l4 + l1, .flags = kTableFlags});
  }
  for (TableTemplate& l1 : make_l1_tables(page_flags(image, layout), layout)) tables.push_back(std::move(l1));
  return tables;
}

void write_table(const TableTemplate& table, std::span<const uint64_t> frames,
                 std::span<uint64_t, kTableEntries> into) {
  clear_pages(std::as_writable_bytes(into));
  for (const TableTemplate::Entry& entry : table.entries)
    into[entry.index] = (frames[entry.pfn] << kPageShift) | entry.flags;
}

}  // namespace synfluid::spawner::toolstack
