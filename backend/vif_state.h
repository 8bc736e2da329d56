// What the two directions of a vif share. Private to backend/.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

#include "backend/counter.h"
#include "backend/guest_link.h"
#include "backend/static_grants.h"
#include "base/abi/netif.h"

namespace synfluid::backend {

struct VifTallies {
  Counter frames_to_guest;
  Counter bytes_to_guest;
  Counter frames_from_guest;
  Counter bytes_from_guest;
  Counter no_rx_buffer;
  Counter too_long;
  Counter bad_tx_request;
  Counter bad_rx_request;
  Counter bad_control_request;
  Counter notifications;
};

/// The tallies, and how the front end broke its protocol, if it did.
struct VifState {
  VifTallies tallies;
  std::string_view broken;    ///< a sentence; empty while all is well
  uint32_t bad_in_a_row = 0;  ///< requests refused since the last good frame

  /// A front end that sends nothing but mistakes only costs time. 4,096 are sixteen rings full: no driver
  /// error that heals by itself lasts so long.
  static constexpr uint32_t kMaxBadInARow = 4096;

  void note_good() noexcept { bad_in_a_row = 0; }
  void note_bad() noexcept {
    if (++bad_in_a_row >= kMaxBadInARow) broken = "nothing but bad requests";
  }
};

/// Finds the host's mapping of a granted page.
class GrantPages {
 public:
  GrantPages(GuestLink& link, const StaticGrants* static_grants) noexcept
      : link_(link), static_(static_grants), seeded_(link.seeded()), may_map_(link.is_persistent()) {}

  /// True if all pages are read and written in place; else those that find() does not know are copied by
  /// grant copy.
  bool are_mapped() const noexcept { return may_map_ || !seeded_.pages.empty(); }
  /// True if the front end had some mapped by its control ring.
  bool has_static() const noexcept { return static_ != nullptr && !static_->empty(); }

  /// nullptr if the page is not mapped: the front end has not granted it, has plain grants, or may not have
  /// more pages mapped.
  std::byte* find(uint32_t gref, PageAccess access) const noexcept {
    const uint32_t index = gref - seeded_.first_gref;
    if (index < seeded_.pages.size()) return seeded_.pages[index];
    if (std::byte* const page = has_static() ? static_->find(gref, access) : nullptr) return page;
    return may_map_ ? link_.map(GrantRef{gref}) : nullptr;
  }

 private:
  GuestLink& link_;
  const StaticGrants* static_;
  GuestLink::Seeded seeded_;
  bool may_map_;
};

/// Staging for a front end with plain grants: what one batch of grant copies moves. 64 KiB hold 40 full
/// Ethernet frames, about what a burst brings; the copies of a batch cost one hypercall.
inline constexpr size_t kStagingBytes = 65536;
inline constexpr size_t kStagingCopies = 64;

}  // namespace synfluid::backend
