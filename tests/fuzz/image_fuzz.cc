// Any bytes as a PV kernel: refused with a reason, or digested into a layout and page tables that hold
// together.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <span>

#include "spawner/toolstack/domain_builder.h"

namespace {

using namespace synfluid::spawner::toolstack;

constexpr uint64_t kMemoryBytes = 512 << 10;

void require(bool holds) {
  if (!holds) std::abort();
}

void check(const GuestTemplate& guest) {
  const GuestLayout& layout = guest.layout;
  require(layout.memory_pfn + kMinMemoryPages <= layout.pages);
  require(guest.page_tables.size() == layout.page_table_pages);
  for (const uint32_t pfn : guest.mapped_pfns) require(pfn <= layout.pages);
  for (const ImageSegment& segment : guest.image.segments) {
    require(segment.first_page + segment.pages <= layout.image_pages);
    require(segment.content_offset + segment.content_pages * kPageBytes <= guest.image.content.size());
  }
  for (const TableTemplate& table : guest.page_tables)
    for (const TableTemplate::Entry& entry : table.entries) {
      require(entry.index < kTableEntries);
      require(entry.pfn <= layout.pages);
    }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::span<const std::byte> file(reinterpret_cast<const std::byte*>(data), size);
  const auto guest = make_guest_template(file, "fuzzed", kMemoryBytes, 0);
  if (guest) check(*guest);
  return 0;
}
