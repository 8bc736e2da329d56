#include "backend/xen/grant_mapper.h"

#include <algorithm>
#include <array>
#include <cassert>
#include <cerrno>
#include <cstddef>
#include <new>
#include <vector>

#include <fmt/format.h>
#include <sys/ioctl.h>
#include <sys/mman.h>

#include "backend/xen/libxen.h"
#include "backend/xen/quiet_logger.h"
#include "base/abi/netif.h"

namespace synfluid::backend::xen {

namespace {

/// More than the largest shared area has pages.
constexpr size_t kMaxRefs = 512;

constexpr size_t request_bytes(size_t refs) {
  return sizeof(ioctl_gntdev_map_grant_ref) + refs * sizeof(ioctl_gntdev_grant_ref);
}

void forget(const GrantShard& shard, uint64_t index, size_t pages) {
  ioctl_gntdev_unmap_grant_ref request{.index = index, .count = static_cast<uint32_t>(pages), .pad = 0};
  ::ioctl(xengnttab_fd(shard.handle()), IOCTL_GNTDEV_UNMAP_GRANT_REF, &request);
}

}  // namespace

GrantShard::~GrantShard() {
  xengnttab_close(handle_);
}

// The library would ask the kernel for the index again, to unmap.
GrantMap::~GrantMap() {
  if (bytes_.empty()) return;
  const size_t pages = bytes_.size() / abi::kPageBytes;
  ::munmap(bytes_.data(), bytes_.size());
  forget(*shard_, index_, pages);
  shard_->stock().give_back(static_cast<uint32_t>(pages));
}

Result<GrantMap> map_grants(std::shared_ptr<GrantShard> shard, DomId domid, std::span<const uint32_t> refs,
                            PageAccess access) {
  const auto failed = [&] {
    return Error::from_errno(errno,
                             fmt::format("mapping {} grants of domain {}", refs.size(), domid.value()));
  };
  assert(!refs.empty() && refs.size() <= kMaxRefs);
  alignas(ioctl_gntdev_map_grant_ref) std::array<std::byte, request_bytes(kMaxRefs)> room;
  auto* request = new (room.data()) ioctl_gntdev_map_grant_ref{};
  request->count = static_cast<uint32_t>(refs.size());
  auto* list =
      reinterpret_cast<ioctl_gntdev_grant_ref*>(room.data() + offsetof(ioctl_gntdev_map_grant_ref, refs));
  std::transform(refs.begin(), refs.end(), list, [&](uint32_t ref) {
    return ioctl_gntdev_grant_ref{domid.value(), ref};
  });
  const int fd = xengnttab_fd(shard->handle());
  if (::ioctl(fd, IOCTL_GNTDEV_MAP_GRANT_REF, request) != 0) return failed();
  const size_t bytes = refs.size() * abi::kPageBytes;
  const uint64_t index = request->index;
  const int protection = access == PageAccess::kWrite ? PROT_READ | PROT_WRITE : PROT_READ;
  void* address = ::mmap(nullptr, bytes, protection, MAP_SHARED, fd, static_cast<off_t>(index));
  if (address == MAP_FAILED) {
    const Error error = failed();
    forget(*shard, index, refs.size());
    return error;
  }
  shard->stock().take(static_cast<uint32_t>(refs.size()));
  return GrantMap(std::move(shard), {static_cast<std::byte*>(address), bytes}, index);
}

Result<std::shared_ptr<GrantShard>> GrantMapper::shard() {
  if (!current_ || used_ == kMapsPerShard) {
    auto opened = own_shard();
    if (!opened) return opened.error();
    current_ = std::move(*opened);
    used_ = 0;
  }
  ++used_;
  return current_;
}

Result<std::shared_ptr<GrantShard>> GrantMapper::own_shard() {
  xengnttab_handle* handle = xengnttab_open(quiet_logger(), 0);
  if (handle == nullptr) return Error::from_errno(errno, "opening /dev/xen/gntdev");
  return std::make_shared<GrantShard>(handle, stock_);
}

// Announced and taken back, the map of so many grants is never made: it needs no domain that gave them.
bool GrantMapper::work_ahead() {
  if (!stock_->is_low()) return false;
  stock_->asked();
  auto device = shard();
  if (!device) return false;
  --used_;
  std::vector<std::byte> room(request_bytes(PageStock::kAhead));
  auto* request = new (room.data()) ioctl_gntdev_map_grant_ref{};
  request->count = PageStock::kAhead;
  if (::ioctl(xengnttab_fd((*device)->handle()), IOCTL_GNTDEV_MAP_GRANT_REF, request) != 0) return false;
  forget(**device, request->index, PageStock::kAhead);
  return true;
}

}  // namespace synfluid::backend::xen
