#include "backend/xen/grant_mapper.h"

#include <cerrno>
#include <vector>

#include <fmt/format.h>
#include <sys/mman.h>

#include "backend/xen/libxen.h"
#include "backend/xen/quiet_logger.h"
#include "base/abi/netif.h"

namespace synfluid::backend::xen {

GrantShard::~GrantShard() {
  xengnttab_close(handle_);
}

GrantMap::~GrantMap() {
  if (!bytes_.empty()) {
    xengnttab_unmap(shard_->handle(), bytes_.data(), static_cast<uint32_t>(bytes_.size() / abi::kPageBytes));
  }
}

Result<GrantMap> map_grants(std::shared_ptr<GrantShard> shard, DomId domid, std::span<const uint32_t> refs) {
  std::vector<uint32_t> list(refs.begin(), refs.end());  // the library's parameter is not const
  void* address = xengnttab_map_domain_grant_refs(shard->handle(), static_cast<uint32_t>(list.size()),
                                                  domid.value(), list.data(), PROT_READ | PROT_WRITE);
  if (address == nullptr) {
    return Error::from_errno(errno,
                             fmt::format("mapping {} grants of domain {}", refs.size(), domid.value()));
  }
  return GrantMap(std::move(shard), {static_cast<std::byte*>(address), refs.size() * abi::kPageBytes});
}

Result<std::shared_ptr<GrantShard>> GrantMapper::shard() {
  if (!current_ || used_ == kMapsPerShard) {
    xengnttab_handle* handle = xengnttab_open(quiet_logger(), 0);
    if (handle == nullptr) return Error::from_errno(errno, "opening /dev/xen/gntdev");
    current_ = std::make_shared<GrantShard>(handle);
    used_ = 0;
  }
  ++used_;
  return current_;
}

}  // namespace synfluid::backend::xen
