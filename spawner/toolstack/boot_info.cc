#include "spawner/toolstack/boot_info.h"

#include <cassert>
#include <cstring>
#include <new>

#include <xen/xen.h>

#include "spawner/page_moves.h"

namespace synfluid::spawner::toolstack {

namespace {

static_assert(sizeof(start_info_t) <= kP2mOffset);

constexpr char kMagic[] = "xen-3.0-x86_64";

}  // namespace

void write_boot_info(const GuestLayout& layout, std::span<const uint64_t> frames, std::span<std::byte> into) {
  assert(into.size() >= size_t{layout.boot_info_pages} * kPageBytes &&
         frames.size() >= layout.populated_pages);
  clear_pages(into.first(kP2mOffset));
  auto* info = new (into.data()) start_info_t;
  std::memcpy(info->magic, kMagic, sizeof(kMagic));
  info->nr_pages = layout.pages;
  info->shared_info = frames[layout.shared_info_pfn] * kPageBytes;
  info->pt_base = layout.address_of(layout.page_tables_pfn);
  info->nr_pt_frames = layout.page_table_pages;
  info->mfn_list = layout.address_of(layout.boot_info_pfn) + kP2mOffset;
  info->mod_start = layout.address_of(layout.shared_area_pfn);
  info->mod_len = uint64_t{layout.shared_area_pages} * kPageBytes;
  info->first_p2m_pfn = layout.boot_info_pfn;
  info->nr_p2m_frames = layout.boot_info_pages;
  std::memcpy(into.data() + kP2mOffset, frames.data(), size_t{layout.populated_pages} * sizeof(uint64_t));
}

}  // namespace synfluid::spawner::toolstack
