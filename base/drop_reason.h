// Why a packet was dropped: one list for the whole project, each entry the counter's name and what it means.
//
// A packet that is neither forwarded nor handed on has exactly one of these. Values only: no threads, no
// ownership. The names are what operators see in `summary.json`, `ctl status` and metrics; they do not change
// once released.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string_view>

namespace synfluid {

enum class DropReason : uint8_t {
  kTableFull,
  kAdmissionRate,
  kAdmissionQuota,
  kFloodGuard,
  kChallenged,
  kSpawnerBusy,
  kHeldFull,
  kHeldTimeout,
  kRefusedByPolicy,
  kRefusedOnFailure,
  kFlowClosed,
  kHandoffFull,
  kNoRxBuffer,
  kVifBroken,
  kBadTxRequest,
  kVmMalformed,
  kVmNotTcp,
  kSpoofed,
  kTooLong,
  kNoMbuf,
  kPortTxFull,
  kShutdown,
};

struct DropReasonText {
  DropReason reason;
  std::string_view name;
  std::string_view sentence;
};

inline constexpr std::array kDropReasons = {
    DropReasonText{
        DropReason::kTableFull, "table_full",
        "A new flow came while the worker's flow table was full, and the policy refuses such flows."},
    DropReasonText{DropReason::kAdmissionRate, "admission_rate",
                   "A SYN asked for a VM faster than the spawn rate allows, in all or for its subscriber."},
    DropReasonText{
        DropReason::kAdmissionQuota, "admission_quota",
        "A SYN asked for a VM while as many as allowed were running, in all or for its subscriber."},
    DropReasonText{
        DropReason::kFloodGuard, "flood_guard",
        "A SYN came while the flood guard was up: too many SYNs had not been followed by a connection."},
    DropReasonText{
        DropReason::kChallenged, "challenged",
        "A SYN came while VMs ran short, from an address not known to be its sender's: it was asked."},
    DropReasonText{DropReason::kSpawnerBusy, "spawner_busy",
                   "A SYN asked for a VM while the request ring to the spawner was full."},
    DropReasonText{
        DropReason::kHeldFull, "held_full",
        "A packet came for a flow whose VM was not ready, and its queue of held packets was full."},
    DropReasonText{DropReason::kHeldTimeout, "held_timeout",
                   "A held packet waited longer for its VM than the service's answer time-out allows."},
    DropReasonText{DropReason::kRefusedByPolicy, "refused_by_policy",
                   "The policy refuses the flow that the packet belongs to."},
    DropReasonText{DropReason::kRefusedOnFailure, "refused_on_failure",
                   "The flow's VM failed, and its service's on_failure is drop or reset."},
    DropReasonText{DropReason::kFlowClosed, "flow_closed",
                   "The packet belongs to a flow that has ended and whose entry is about to go."},
    DropReasonText{DropReason::kHandoffFull, "handoff_full",
                   "The flow's VM belongs to another worker, whose inbox was full."},
    DropReasonText{DropReason::kNoRxBuffer, "no_rx_buffer",
                   "The VM had posted no receive buffer for the packet: it is slower than its flows."},
    DropReasonText{DropReason::kVifBroken, "vif_broken",
                   "The VM broke the ring protocol, and its vif moves no more packets."},
    DropReasonText{DropReason::kBadTxRequest, "bad_tx_request",
                   "The VM transmitted from a bad buffer: out of bounds, not granted, or of a bad length."},
    DropReasonText{DropReason::kVmMalformed, "vm_malformed",
                   "The VM sent a frame whose headers are cut short or contradict themselves."},
    DropReasonText{DropReason::kVmNotTcp, "vm_not_tcp",
                   "The VM sent a frame that is not TCP; a service has no other business on the data path."},
    DropReasonText{DropReason::kSpoofed, "spoofed",
                   "The VM sent a packet of a flow that is not its own, or in a direction it may not speak."},
    DropReasonText{DropReason::kTooLong, "too_long",
                   "The packet is longer than the vif or the port it should leave by can carry."},
    DropReasonText{DropReason::kNoMbuf, "no_mbuf", "The packet pool had no buffer left for the packet."},
    DropReasonText{DropReason::kPortTxFull, "port_tx_full",
                   "The transmit queue of the port the packet should leave by was full."},
    DropReasonText{DropReason::kShutdown, "shutdown", "The packet was still held when the gateway stopped."},
};

inline constexpr size_t kDropReasonCount = kDropReasons.size();

namespace internal {
constexpr bool drop_reasons_are_in_order() {
  for (size_t i = 0; i < kDropReasons.size(); ++i)
    if (static_cast<size_t>(kDropReasons[i].reason) != i) return false;
  return static_cast<size_t>(DropReason::kShutdown) + 1 == kDropReasons.size();
}
}  // namespace internal
static_assert(internal::drop_reasons_are_in_order(), "one entry per reason, in the order of the enum");

/// The entry of a reason: its counter's name and its meaning.
constexpr const DropReasonText& describe(DropReason reason) {
  return kDropReasons[static_cast<size_t>(reason)];
}

}  // namespace synfluid
