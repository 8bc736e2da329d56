#include "backend/guard.h"

namespace synfluid::backend {

namespace {

constexpr GuardVerdict dropped(DropReason reason) {
  return {.allowed = false, .reason = reason};
}
constexpr GuardVerdict towards(Side side) {
  return {.allowed = true, .out = side};
}

}  // namespace

GuardVerdict judge_headers(const ParsedPacket& packet) noexcept {
  switch (packet.kind) {
    case PacketKind::kTcp:
      return towards(Side::kAccess);
    case PacketKind::kTruncated:
    case PacketKind::kMalformed:
      return dropped(DropReason::kVmMalformed);
    case PacketKind::kNotIp:
    case PacketKind::kNotTcp:
    case PacketKind::kFragment:
      break;
  }
  return dropped(DropReason::kVmNotTcp);
}

GuardVerdict judge_vm_frame(const ParsedPacket& packet, VmRole role, const FlowClaim& claim) noexcept {
  if (const GuardVerdict headers = judge_headers(packet); !headers.allowed) return headers;
  if (!claim.is_of_this_vif) return dropped(DropReason::kSpoofed);
  const bool speaks_as_initiator = packet.flow.from == claim.initiator;
  if (!speaks_as_initiator) return towards(claim.initiator_side);
  if (role == VmRole::kTerminate) return dropped(DropReason::kSpoofed);
  return towards(other(claim.initiator_side));
}

}  // namespace synfluid::backend
