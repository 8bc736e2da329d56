// Maps granted pages of guests through /dev/xen/gntdev.
//
// The kernel keeps the maps of one open gntdev in a list that it walks for every map and unmap, so maps are
// spread over many: each open file serves kMapsPerShard maps and closes when the last of them goes.
//
// Threads: a GrantMapper belongs to one (the spawner's); a GrantMap may be destroyed by any thread, and so
// may map further grants through its own shard. Ownership: a GrantMap owns its mapping and shares its shard.
// Errors: Result; a grant that the guest does not give is kPermission.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <utility>

#include "backend/guest_link.h"
#include "backend/xen/page_stock.h"
#include "base/result.h"
#include "base/strong_id.h"

struct xengntdev_handle;

namespace synfluid::backend::xen {

/// A map in a list of 64 is found in well under a microsecond, and 10,000 guests need 157 descriptors.
inline constexpr uint32_t kMapsPerShard = 64;

/// One open gntdev.
class GrantShard {
 public:
  GrantShard(xengntdev_handle* handle, std::shared_ptr<PageStock> stock)
      : handle_(handle), stock_(std::move(stock)) {}
  GrantShard(const GrantShard&) = delete;
  GrantShard& operator=(const GrantShard&) = delete;
  ~GrantShard();
  xengntdev_handle* handle() const { return handle_; }
  PageStock& stock() const { return *stock_; }

 private:
  xengntdev_handle* handle_;
  std::shared_ptr<PageStock> stock_;
};

/// Granted pages in our address space, one after the other, until it goes.
class GrantMap {
 public:
  GrantMap() = default;
  /// `index` is what the kernel calls the map.
  GrantMap(std::shared_ptr<GrantShard> shard, std::span<std::byte> bytes, uint64_t index)
      : shard_(std::move(shard)), bytes_(bytes), index_(index) {}
  GrantMap(GrantMap&& other) noexcept
      : shard_(std::move(other.shard_)), bytes_(std::exchange(other.bytes_, {})), index_(other.index_) {}
  GrantMap& operator=(GrantMap&& other) noexcept {
    std::swap(shard_, other.shard_);
    std::swap(bytes_, other.bytes_);
    std::swap(index_, other.index_);
    return *this;
  }
  ~GrantMap();

  std::span<std::byte> bytes() const { return bytes_; }
  const std::shared_ptr<GrantShard>& shard() const { return shard_; }

 private:
  std::shared_ptr<GrantShard> shard_;
  std::span<std::byte> bytes_;
  uint64_t index_ = 0;
};

/// Maps `refs` of one domain in one call, for reading and, unless `access` says otherwise, writing.
/// Precondition: from 1 to 512 of them.
Result<GrantMap> map_grants(std::shared_ptr<GrantShard> shard, DomId domid, std::span<const uint32_t> refs,
                            PageAccess access = PageAccess::kWrite);

class GrantMapper {
 public:
  /// A shard with room for another map; opens one when the last is full.
  Result<std::shared_ptr<GrantShard>> shard();
  /// One for a single link, which makes so many maps that others should not have to walk them.
  Result<std::shared_ptr<GrantShard>> own_shard();

  /// Has the kernel make pages for maps to come, if it may have too few. False if there is nothing to do.
  bool work_ahead();

 private:
  const std::shared_ptr<PageStock> stock_ = std::make_shared<PageStock>();
  std::shared_ptr<GrantShard> current_;
  uint32_t used_ = 0;
};

}  // namespace synfluid::backend::xen
