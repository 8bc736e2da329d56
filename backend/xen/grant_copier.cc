#include "backend/xen/grant_copier.h"

#include <algorithm>
#include <array>

#include "backend/xen/libxen.h"
#include "base/abi/netif.h"

namespace synfluid::backend::xen {

namespace {

/// Grant copies handed to the kernel at a time.
constexpr size_t kCopyBatch = 64;

xengnttab_grant_copy_segment_t segment_of(const GrantCopy& piece, DomId domid) noexcept {
  xengnttab_grant_copy_segment_t segment{};
  const bool from_guest = piece.direction == GrantCopy::Direction::kFromGuest;
  auto& guest = from_guest ? segment.source : segment.dest;
  auto& host = from_guest ? segment.dest : segment.source;
  guest.foreign.ref = piece.gref.value();
  guest.foreign.offset = piece.offset;
  guest.foreign.domid = domid.value();
  host.virt = piece.host;
  segment.len = piece.length;
  segment.flags = from_guest ? GNTCOPY_source_gref : GNTCOPY_dest_gref;
  return segment;
}

}  // namespace

void GrantCopier::copy(std::span<GrantCopy> batch) const noexcept {
  while (!batch.empty()) {
    const auto part = batch.first(std::min(batch.size(), kCopyBatch));
    copy_part(part);
    batch = batch.subspan(part.size());
  }
}

void GrantCopier::copy_part(std::span<GrantCopy> part) const noexcept {
  std::array<xengnttab_grant_copy_segment_t, kCopyBatch> segments;
  std::transform(part.begin(), part.end(), segments.begin(),
                 [this](const auto& piece) { return segment_of(piece, domid_); });
  const bool made =
      xengnttab_grant_copy(shard_->handle(), static_cast<uint32_t>(part.size()), segments.data()) == 0;
  for (size_t i = 0; i < part.size(); ++i) {
    part[i].status = made && segments[i].status == GNTST_okay ? abi::kRspOkay : abi::kRspError;
  }
}

}  // namespace synfluid::backend::xen
