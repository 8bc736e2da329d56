// The guard of the switch: may this VM send this frame, and if so, out of which port?
//
// A VM speaks only for the flows it was given. The worker parses what a vif delivered, looks its flow up in
// its own table, and asks here; nothing the VM says about itself is believed. The rules:
//
//     not whole TCP over IP            dropped: vm_malformed, vm_not_tcp
//     a flow of another vif, or none   dropped: spoofed
//     terminate, source = initiator    dropped: spoofed (the VM is the server, it never speaks as the client)
//     terminate, source = server       towards the initiator
//     inline, source = initiator       towards the other side
//     inline, source = the other end   towards the initiator
//
// Threads: pure functions. No allocation.
#pragma once

#include <cstdint>

#include "base/address.h"
#include "base/drop_reason.h"
#include "base/packet.h"

namespace synfluid::backend {

/// What a VM is to its flows.
enum class VmRole : uint8_t {
  kTerminate,  ///< it is their server
  kInline,     ///< it sits between their ends
};

/// The two sides of the gateway.
enum class Side : uint8_t { kAccess, kCore };
constexpr Side other(Side side) {
  return side == Side::kAccess ? Side::kCore : Side::kAccess;
}

/// What the worker's table says of the flow that the frame belongs to.
struct FlowClaim {
  bool is_of_this_vif = false;          ///< false: no entry, or another vif's
  FromEnd initiator = FromEnd::kLow;    ///< which end sent the first SYN
  Side initiator_side = Side::kAccess;  ///< the port that SYN came in by
};

struct GuardVerdict {
  bool allowed = false;
  Side out = Side::kAccess;                  ///< where the frame goes, if allowed
  DropReason reason = DropReason::kSpoofed;  ///< why not, otherwise
};

/// First half, before the look-up: a frame that has no flow key at all. Allowed means "look it up".
GuardVerdict judge_headers(const ParsedPacket& packet) noexcept;

/// The whole judgement. `packet` is the VM's frame as parse_packet() saw it.
GuardVerdict judge_vm_frame(const ParsedPacket& packet, VmRole role, const FlowClaim& claim) noexcept;

}  // namespace synfluid::backend
