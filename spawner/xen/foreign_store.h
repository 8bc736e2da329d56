// The store nodes of a foreign guest: as few as its kernel needs to find its vif.
//
//     /local/domain/<id>/                       guest reads
//         name
//         control/shutdown                      guest writes (MiniOS' shutdown thread insists on it)
//         device/vif/0/                         guest writes
//             backend, backend-id, state, mac
//     /local/domain/0/synfluid/vif/<id>/0/      guest reads
//         state, feature-rx-copy, feature-sg, feature-persistent, and if its service says so
//         feature-ctrl-ring
//
// Fifteen nodes and the two directories in between, written by one transaction. The back end's nodes are not
// under dom0's "backend" directory, where dom0's kernel looks for devices of its own and would race for the
// vif: a front end goes where its `backend` node says.
//
// Threads: the spawner's. Ownership: the store is the caller's. Errors: the store's, with the guest in front.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>

#include "backend/xen/xenbus_backend.h"
#include "base/result.h"
#include "base/strong_id.h"
#include "spawner/control_store.h"

namespace synfluid::spawner::xen {

struct ForeignNodes {
  DomId domid;
  std::string name;
  std::array<uint8_t, 6> mac{};
  backend::xen::XenbusOffer offer = {};
};

/// Most nodes that a guest with one vif may have; a control ring on offer is one more.
inline constexpr size_t kMaxNodesPerGuest = 17;

std::string guest_path(DomId domid);
std::string front_path(DomId domid);
std::string back_path(DomId domid);

/// Writes all of a guest's nodes, or none. What an older guest of the same id left is removed.
Status write_nodes(ControlStore& store, const ForeignNodes& nodes);
/// Removes them all, or none.
Status remove_nodes(ControlStore& store, DomId domid);

/// Removes the nodes that a former run's foreign guests left. `is_in_use` tells of ids that somebody else's
/// domain has by now: its own nodes are left alone. Returns how many guests had left some.
Result<uint32_t> sweep_nodes(ControlStore& store, const std::function<bool(DomId)>& is_in_use);

}  // namespace synfluid::spawner::xen
