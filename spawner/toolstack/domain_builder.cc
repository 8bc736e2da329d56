#include "spawner/toolstack/domain_builder.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <numeric>

#include <fmt/format.h>
#include <xen/grant_table.h>
#include <xen/xen.h>

#include "spawner/page_moves.h"
#include "spawner/shared_area.h"
#include "spawner/toolstack/boot_info.h"

namespace synfluid::spawner::toolstack {

namespace {

constexpr uint16_t kBackendDomain = 0;
constexpr std::string_view kOurMark = "synfluid";
constexpr size_t kGenerationAt = 8;

/// Pages [begin, end) in pieces of powers of two, the largest first. Returns how many.
size_t cut(uint32_t begin, uint32_t end, std::span<MemoryPiece> into) {
  size_t pieces = 0;
  while (begin < end) {
    const auto order = static_cast<unsigned>(std::bit_width(end - begin) - 1);
    into[pieces++] = {.pfn = begin, .order = order};
    begin += 1u << order;
  }
  return pieces;
}

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
  std::vector<uint32_t> pfns;  // the last is no page of the guest's: it stands for the grant table
  const auto add = [&](uint32_t first, uint32_t pages) {
    for (uint32_t i = 0; i < pages; ++i) pfns.push_back(first + i);
  };
  for (const ImageSegment& segment : image.segments) add(segment.first_page, segment.content_pages);
  add(layout.page_tables_pfn, layout.page_table_pages);
  add(layout.boot_info_pfn, layout.boot_info_pages);
  add(layout.shared_area_pfn, abi::kFirstBufferPage);
  add(layout.shared_info_pfn, 1);
  add(layout.populated_pages, 1);
  return pfns;
}

void write_image(const PvImage& image, PageCursor& cursor) {
  for (const ImageSegment& segment : image.segments) {
    const auto into = cursor.take(segment.content_pages);
    copy_pages(std::span(image.content).subspan(segment.content_offset, into.size()), into);
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

/// Xen has cleared the table, and the guest has not run: there is nobody to race with.
void seed_grants(const GuestLayout& layout, std::span<const uint64_t> frames, std::span<std::byte> page) {
  auto* entries = reinterpret_cast<grant_entry_v1_t*>(page.data());
  for (uint32_t i = 0; i < layout.shared_area_pages; ++i) {
    entries[abi::kFirstGrant + i] = {.flags = GTF_permit_access,
                                     .domid = kBackendDomain,
                                     .frame = static_cast<uint32_t>(frames[layout.shared_area_pfn + i])};
  }
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
  const DomId id = identity.domid;
  if (auto status = xen_.create_domain(id, handle_of(identity.generation)); !status) return status.error();
  OwnedDomain domain(ender_, id);
  if (auto status = equip(id, layout); !status) return status.error();
  if (auto status = write_memory(guest, identity); !status) return status.error();
  const VcpuStart start{.entry = guest.image.entry,
                        .l4_frame = frames_[layout.page_tables_pfn],
                        .start_info = layout.address_of(layout.boot_info_pfn)};
  if (auto status = xen_.set_context(id, start); !status) return status.error();
  return BuiltDomain{.domain = std::move(domain), .card_frame = frames_[layout.shared_area_pfn]};
}

Status DomainBuilder::equip(DomId domid, const GuestLayout& layout) {
  std::array<MemoryPiece, kMaxPieces> room;
  size_t count = cut(0, layout.shared_info_pfn, room);
  count += cut(layout.memory_pfn, layout.populated_pages, std::span(room).subspan(count));
  const auto pieces = std::span(room).first(count);
  auto outfit = xen_.equip(domid, layout.memory_pages, pieces);
  if (!outfit) return outfit.error();
  frames_.resize(layout.populated_pages + 1);
  for (const MemoryPiece& piece : pieces)
    if (auto status = take_piece(domid, piece); !status) return status.error();
  frames_[layout.shared_info_pfn] = outfit->shared_info_frame;
  frames_[layout.populated_pages] = outfit->grant_frame;
  return {};
}

Status DomainBuilder::take_piece(DomId domid, const MemoryPiece& piece) {
  const auto frames = std::span(frames_).subspan(piece.pfn, size_t{1} << piece.order);
  if (piece.frame) {
    std::iota(frames.begin(), frames.end(), *piece.frame);
    return {};
  }
  for (uint32_t i = 0; i < frames.size(); ++i) {
    const auto frame = xen_.populate(domid, piece.pfn + i, 0);
    if (!frame) return frame.error();
    frames[i] = *frame;
  }
  return {};
}

Status DomainBuilder::write_memory(const GuestTemplate& guest, const GuestIdentity& identity) {
  const GuestLayout& layout = guest.layout;
  map_list_.clear();
  for (const uint32_t pfn : guest.mapped_pfns) map_list_.push_back(frames_[pfn]);
  auto memory = MappedFrames::map(xen_, identity.domid, map_list_);
  if (!memory) return memory.error();
  PageCursor cursor(memory->bytes());
  write_image(guest.image, cursor);
  write_page_tables(guest.page_tables, frames_, cursor);
  write_boot_info(layout, frames_, cursor.take(layout.boot_info_pages));
  lay_out_shared_area(cursor.take(abi::kFirstBufferPage),
                      {.domid = identity.domid,
                       .generation = identity.generation,
                       .service = guest.service,
                       .event_port = identity.event_port.value(),
                       .buffers = layout.buffers,
                       .rx_posted = layout.rx_posted,
                       .ready_pages = layout.ready_pages(),
                       .mac = guest_mac(identity.domid, identity.generation),
                       .entropy = identity.entropy,
                       .card_config = guest.card_config});
  mask_upcalls(cursor.take(1));
  seed_grants(layout, frames_, cursor.take(1));
  return {};
}

}  // namespace synfluid::spawner::toolstack
