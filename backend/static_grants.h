// The pages that a front end had mapped by its control ring: grant reference to mapped page.
//
// A fixed table with open addressing, at most half full: found in a few probes, nothing allocated once it is
// made. A front end maps its pages once and uses them for as long as it lives, so it may fill the table only
// so many times in all: mapping costs hypercalls, and its worker serves others.
//
// Private to backend/. Threads: the vif's owner. Ownership: the pages are the link's; what is mapped at the
// end goes with it. Protocol: Xen public header xen/io/netif.h, "Static Grants".
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "backend/guest_link.h"

namespace synfluid::backend {

/// Where in the table a reference belongs. The front end chooses its references: without the secret it cannot
/// choose some that share an entry, which each of its packets would walk past.
class GrefHash {
 public:
  using Secret = std::array<uint64_t, 2>;
  explicit GrefHash(const Secret& secret) : offset_(secret[0]), factor_(secret[1] | 1) {}
  /// With a secret drawn now.
  static GrefHash draw();

  uint32_t operator()(uint32_t gref) const noexcept {
    const Wide product = static_cast<Wide>(gref + offset_) * factor_;
    const auto folded = static_cast<uint64_t>(product >> 64 ^ product);
    return static_cast<uint32_t>(folded * factor_ >> 32);
  }

 private:
  __extension__ using Wide = unsigned __int128;
  uint64_t offset_;
  uint64_t factor_;
};

class StaticGrants {
 public:
  explicit StaticGrants(ControlLink& link);

  uint32_t capacity() const noexcept { return static_cast<uint32_t>(places_.size()); }
  bool empty() const noexcept { return free_.size() == places_.size(); }
  /// For so many more pages, now and in all.
  bool has_room(uint32_t count) const noexcept { return count <= free_.size() && count <= budget_; }

  /// False: it is not granted, is there already or has unknown flags. Precondition: has_room(1).
  bool add(const abi::NetGref& grant) noexcept;
  /// False: it is not there.
  bool remove(uint32_t gref) noexcept;
  /// nullptr: it is not there, or may not be written.
  std::byte* find(uint32_t gref, PageAccess access) const noexcept;

 private:
  struct Place {
    uint32_t gref = 0;
    PageAccess access = PageAccess::kRead;
    std::byte* page = nullptr;
  };
  static constexpr uint16_t kEmpty = 0xffff;

  /// The entry that has the grant, or the empty one where it would be.
  uint32_t entry_of(uint32_t gref) const noexcept;
  uint32_t home_of(uint32_t gref) const noexcept;
  void close_gap(uint32_t entry) noexcept;

  ControlLink& link_;
  std::vector<Place> places_;
  std::vector<uint16_t> free_;     ///< places
  std::vector<uint16_t> entries_;  ///< of the hash table: places, or kEmpty
  GrefHash hash_;
  uint32_t budget_;  ///< pages that may still be mapped, ever
};

}  // namespace synfluid::backend
