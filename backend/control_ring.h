// The control ring: what a front end asks of its back end beside packets. We serve its static grants, pages
// that stay mapped because their list was given beforehand:
//
//     GET_GREF_MAPPING_SIZE   how many pages may be mapped
//     ADD_GREF_MAPPING        maps a list of grants, all or none
//     DEL_GREF_MAPPING        unmaps a list of grants, each with a status of its own
//
// Hashing is not supported, and said so. A list is copied from and to the front end's page, so that nothing
// in it changes while it is used. Mapping costs system calls, so a list is worked through a few entries a
// burst; one request is answered after the other.
//
// Private to backend/. Threads: the vif's owner. Protocol: Xen public header xen/io/netif.h, "Control
// messages".
#pragma once

#include <array>
#include <cstdint>
#include <span>

#include "backend/ring.h"
#include "backend/static_grants.h"
#include "backend/vif_state.h"

namespace synfluid::backend {

class ControlRing {
 public:
  ControlRing(GuestLink& link, ControlLink& control, StaticGrants& grants, VifState& state)
      : link_(link), control_(control), grants_(grants), state_(state), ring_(control.ring()) {}

  /// Goes on with the request in hand, or takes up the next if there is one.
  void serve() noexcept;
  /// Asks for a doorbell at the next request. True if there is something to serve already.
  bool arm() noexcept;

 private:
  /// What is done with the list of the request in hand.
  enum class Work : uint8_t { kNone, kAdd, kUndo, kRemove };

  bool take_up() noexcept;
  void begin(Work work) noexcept;
  void finish(uint32_t status, uint32_t data = 0) noexcept;
  void add_some() noexcept;
  void undo_some() noexcept;
  void remove_some() noexcept;
  bool copy_list(GrantCopy::Direction direction) noexcept;
  void check_index() noexcept;

  GuestLink& link_;
  ControlLink& control_;
  StaticGrants& grants_;
  VifState& state_;
  CtrlBackRing ring_;
  Work work_ = Work::kNone;
  abi::NetCtrlRequest request_{};  ///< in hand, or the last that was
  uint32_t done_ = 0;              ///< entries of its list that are mapped, or looked at to be unmapped
  uint32_t removed_ = 0;
  std::array<abi::NetGref, abi::kGrefsPerPage> room_;
  std::span<abi::NetGref> list_;  ///< the request's, in `room_`
};

}  // namespace synfluid::backend
