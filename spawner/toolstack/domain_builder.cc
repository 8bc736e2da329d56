#include "spawner/toolstack/domain_builder.h"

#include <algorithm>
#include <atomic>
#include <bit>
#include <cstring>
#include <numeric>

#include <fmt/format.h>
#include <xen/grant_table.h>
#include <xen/xen.h>

#include "spawner/shared_area.h"
#include "spawner/toolstack/boot_info.h"

namespace synfluid::spawner::toolstack {

namespace {

/// Ids are handed out downwards: Xen keeps its domains sorted by id and walks the list to insert one.
constexpr uint16_t kHighestDomId = DOMID_FIRST_RESERVED - 1;
constexpr uint16_t kBackendDomain = 0;
constexpr std::string_view kOurMark = "synfluid";
constexpr size_t kGenerationAt = 8;

/// A domain's memory in our address space.
class MappedFrames {
 public:
  static Result<MappedFrames> map(XenCalls& xen, DomId domid, std::span<const uint64_t> frames) {
    auto address = xen.map_frames(domid, frames);
    if (!address) return address.error();
    return MappedFrames(xen, {*address, frames.size() * kPageBytes});
  }
  MappedFrames(MappedFrames&& other) noexcept : xen_(other.xen_), bytes_(std::exchange(other.bytes_, {})) {}
  MappedFrames& operator=(MappedFrames&&) = delete;
  ~MappedFrames() {
    if (!bytes_.empty()) xen_.unmap_frames(bytes_.data(), bytes_.size() / kPageBytes);
  }
  std::span<std::byte> bytes() const { return bytes_; }

 private:
  MappedFrames(XenCalls& xen, std::span<std::byte> bytes) : xen_(xen), bytes_(bytes) {}

  XenCalls& xen_;
  std::span<std::byte> bytes_;
};

/// Takes the mapped pages one region after the other, in the order of GuestTemplate::mapped_pfns.
class PageCursor {
 public:
  explicit PageCursor(std::span<std::byte> bytes) : left_(bytes) {}
  std::span<std::byte> take(uint32_t pages) {
    const auto region = left_.first(size_t{pages} * kPageBytes);
    left_ = left_.subspan(region.size());
    return region;
  }

 private:
  std::span<std::byte> left_;
};

std::vector<uint32_t> pfns_to_map(const PvImage& image, const GuestLayout& layout) {
  std::vector<uint32_t> pfns;
  const auto add = [&](uint32_t first, uint32_t pages) {
    for (uint32_t i = 0; i < pages; ++i) pfns.push_back(first + i);
  };
  for (const ImageSegment& segment : image.segments) add(segment.first_page, segment.content_pages);
  add(layout.page_tables_pfn, layout.page_table_pages);
  add(layout.boot_info_pfn, layout.boot_info_pages);
  add(layout.shared_area_pfn, abi::kFirstBufferPage);
  add(layout.pages, 1);
  return pfns;
}

void write_image(const PvImage& image, PageCursor& cursor) {
  for (const ImageSegment& segment : image.segments) {
    const auto into = cursor.take(segment.content_pages);
    std::memcpy(into.data(), image.content.data() + segment.content_offset, into.size());
  }
}

void write_page_tables(const PageTableTemplate& tables, std::span<const uint64_t> frames,
                       PageCursor& cursor) {
  for (const TableTemplate& table : tables) {
    auto* entries = reinterpret_cast<uint64_t*>(cursor.take(1).data());
    write_table(table, frames, std::span<uint64_t, kTableEntries>(entries, kTableEntries));
  }
}

/// A guest of ours polls its one port; without this Xen would call a handler that it does not have.
void mask_upcalls(std::span<std::byte> page) {
  reinterpret_cast<shared_info_t*>(page.data())->vcpu_info[0].evtchn_upcall_mask = 1;
}

}  // namespace

Result<GuestTemplate> make_guest_template(std::span<const std::byte> elf, std::string_view name,
                                          uint64_t memory_bytes, uint32_t buffers) {
  auto image = read_pv_image(elf, name);
  if (!image) return image.error();
  auto layout = lay_out_guest(*image, memory_bytes, buffers);
  if (!layout) return layout.error().within(fmt::format("image '{}'", name));
  GuestTemplate guest;
  guest.page_tables = make_page_tables(*image, *layout);
  guest.mapped_pfns = pfns_to_map(*image, *layout);
  guest.layout = *layout;
  guest.image = std::move(*image);
  return guest;
}

DomainHandle handle_of(uint32_t generation) {
  DomainHandle handle{};
  std::copy(kOurMark.begin(), kOurMark.end(), handle.begin());
  std::memcpy(handle.data() + kGenerationAt, &generation, sizeof(generation));
  return handle;
}

bool is_ours(const DomainHandle& handle) {
  return std::equal(kOurMark.begin(), kOurMark.end(), handle.begin());
}

uint32_t generation_of(const DomainHandle& handle) {
  uint32_t generation = 0;
  std::memcpy(&generation, handle.data() + kGenerationAt, sizeof(generation));
  return generation;
}

Result<BuiltDomain> DomainBuilder::build(const GuestTemplate& guest, const GuestIdentity& identity) {
  const GuestLayout& layout = guest.layout;
  auto domain = create(handle_of(identity.generation));
  if (!domain) return domain.error();
  const DomId id = domain->id();
  if (auto status = xen_.add_vcpu(id); !status) return status.error();
  if (auto status = xen_.limit_memory(id, layout.pages); !status) return status.error();
  auto frames = populate(id, layout.pages);
  if (!frames) return frames.error();
  auto shared_info = xen_.shared_info_frame(id);
  if (!shared_info) return shared_info.error();
  frames->push_back(*shared_info);
  auto port = xen_.open_event_port(id);
  if (!port) return port.error();
  if (auto status = write_memory(id, guest, identity, *port, *frames); !status) return status.error();

  const uint64_t l4_frame = (*frames)[layout.page_tables_pfn];
  if (auto status = xen_.pin_l4(id, l4_frame); !status) return status.error();
  const VcpuStart start{.entry = guest.image.entry,
                        .l4_frame = l4_frame,
                        .start_info = layout.address_of(layout.boot_info_pfn)};
  if (auto status = xen_.set_context(id, start); !status) return status.error();
  if (auto status = seed_grants(id, layout, *frames); !status) return status.error();
  return BuiltDomain{
      .domain = std::move(*domain), .event_port = *port, .card_frame = (*frames)[layout.shared_area_pfn]};
}

Result<OwnedDomain> DomainBuilder::create(const DomainHandle& handle) {
  for (uint32_t tries = 0; tries < kHighestDomId; ++tries) {
    if (next_id_ == 0) next_id_ = kHighestDomId;
    const DomId domid(next_id_--);
    auto status = xen_.create_domain(domid, handle);
    if (status) return OwnedDomain(xen_, domid);
    if (status.error().code() != ErrorCode::kConflict) return status.error();
  }
  return Error(ErrorCode::kExhausted, fmt::format("all {} domain ids are in use", kHighestDomId));
}

Result<std::vector<uint64_t>> DomainBuilder::populate(DomId domid, uint32_t pages) {
  std::vector<uint64_t> frames;
  frames.reserve(pages + 1);
  while (frames.size() < pages) {
    const auto pfn = static_cast<uint32_t>(frames.size());
    const auto order = static_cast<unsigned>(std::bit_width(pages - pfn) - 1);
    if (auto status = populate_piece(domid, pfn, order, frames); !status) return status.error();
  }
  return frames;
}

Status DomainBuilder::populate_piece(DomId domid, uint32_t pfn, unsigned order,
                                     std::vector<uint64_t>& frames) {
  const uint32_t pages = 1u << order;
  const auto piece = xen_.populate(domid, pfn, order);
  if (piece) {
    frames.resize(pfn + pages);
    std::iota(frames.begin() + pfn, frames.end(), *piece);
    return {};
  }
  if (order == 0) return piece.error();
  for (uint32_t i = 0; i < pages; ++i) {
    if (auto status = populate_piece(domid, pfn + i, 0, frames); !status) return status.error();
  }
  return {};
}

Status DomainBuilder::write_memory(DomId domid, const GuestTemplate& guest, const GuestIdentity& identity,
                                   EventPort port, std::span<const uint64_t> frames) {
  map_list_.clear();
  for (const uint32_t pfn : guest.mapped_pfns) map_list_.push_back(frames[pfn]);
  auto memory = MappedFrames::map(xen_, domid, map_list_);
  if (!memory) return memory.error();
  PageCursor cursor(memory->bytes());
  write_image(guest.image, cursor);
  write_page_tables(guest.page_tables, frames, cursor);
  write_boot_info(guest.layout, frames, cursor.take(guest.layout.boot_info_pages));
  lay_out_shared_area(cursor.take(abi::kFirstBufferPage), {.domid = domid,
                                                           .generation = identity.generation,
                                                           .service = guest.service,
                                                           .event_port = port.value(),
                                                           .buffers = guest.layout.buffers,
                                                           .rx_posted = guest.layout.rx_posted,
                                                           .mac = guest_mac(domid, identity.generation),
                                                           .entropy = identity.entropy,
                                                           .card_config = guest.card_config});
  mask_upcalls(cursor.take(1));
  return {};
}

Status DomainBuilder::seed_grants(DomId domid, const GuestLayout& layout, std::span<const uint64_t> frames) {
  auto table = xen_.map_grant_table(domid);
  if (!table) return table.error();
  for (uint32_t i = 0; i < layout.shared_area_pages; ++i) {
    GrantTable::Entry& entry = table->entries[abi::kFirstGrant + i];
    entry.domid = kBackendDomain;
    entry.frame = static_cast<uint32_t>(frames[layout.shared_area_pfn + i]);
    std::atomic_ref(entry.flags).store(GTF_permit_access, std::memory_order_release);
  }
  xen_.unmap_grant_table(*table);
  return {};
}

}  // namespace synfluid::spawner::toolstack
