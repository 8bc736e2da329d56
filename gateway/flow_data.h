// What a worker keeps for each flow beside its table entry: touched once per packet, at most two cache lines.
//
// Indexed by FlowIndex, so it never moves and is never allocated on the path. Threads: the worker's alone.
// Units: ns of the worker's clocks (see worker.h: traffic time and waiting time).
#pragma once

#include <array>
#include <cstdint>

#include "backend/link_adapter.h"
#include "base/packet.h"
#include "flowtable/layout.h"
#include "gateway/packet_io.h"
#include "policies/policy.h"

namespace synfluid::gateway {

inline constexpr uint32_t kNone = 0xffffffff;

/// The two ends of a list of held frames (held_frames.h); lives in whatever the frames wait for.
struct HeldList {
  uint32_t head = kNone;
  uint32_t tail = kNone;
  uint32_t count = 0;
};

/// Why a flow's entry went.
enum class FlowEnd : uint8_t {
  kOpen,      ///< it has not
  kFin,       ///< FIN both ways, both acknowledged
  kReset,     ///< RST
  kIdle,      ///< nothing came for the service's idle_timeout
  kFailed,    ///< its VM could not be had, died, or did not answer: on_failure
  kReused,    ///< a new connection on the same ports
  kShutdown,  ///< the gateway stopped
};

constexpr const char* name_of(FlowEnd end) {
  switch (end) {
    case FlowEnd::kOpen:
      return "open";
    case FlowEnd::kFin:
      return "fin";
    case FlowEnd::kReset:
      return "reset";
    case FlowEnd::kIdle:
      return "idle";
    case FlowEnd::kFailed:
      return "failed";
    case FlowEnd::kReused:
      return "reused";
    case FlowEnd::kShutdown:
      return "shutdown";
  }
  return "unknown";
}

/// How far a connection has come towards its end, by the TCP headers that passed. Arrays are indexed by
/// FromEnd.
struct TcpProgress {
  std::array<uint32_t, 2> last_ack{};
  std::array<uint32_t, 2> fin_end{};  ///< the sequence number behind the FIN
  std::array<bool, 2> ack_known{};
  std::array<bool, 2> fin_seen{};
  std::array<bool, 2> fin_acked{};

  /// Takes a packet into account. kFin or kReset when it ends the connection, else kOpen. A RST far from what
  /// its receiver has acknowledged ends nothing: anybody could have sent it.
  FlowEnd see(const ParsedPacket& packet) noexcept;
};

/// Bits of FlowValue::flags, beside flowtable::flow_flag.
namespace flow_bit {
/// The policy lets the flow pass: the table's entry is all there is, its FlowData means nothing. A packet of
/// it that neither begins nor ends it goes to the other side, as one of no flow does; it costs the line of
/// the entry's tag and no more.
inline constexpr uint8_t kPassing = flowtable::flow_flag::kPlain;
/// Of a passing flow: FINs seen, by the end they came from.
inline constexpr uint8_t kFinFromLow = 0x04;
inline constexpr uint8_t kFinFromHigh = 0x08;
inline constexpr uint8_t kFins = kFinFromLow | kFinFromHigh;
}  // namespace flow_bit

struct FlowData {
  uint32_t generation = 0;  ///< counts the flows that had this index
  uint32_t slot = kNone;    ///< the vif slot; the VM may still be on its way there
  uint32_t list_prev = kNone;
  uint32_t list_next = kNone;  ///< in the list of waiting flows, or of the slot's flows
  uint32_t wait_prev = kNone;
  uint32_t wait_next = kNone;
  HeldList held;
  uint32_t undelivered = kNone;  ///< the first held frame that the VM has not got yet
  uint16_t service = 0;
  uint16_t hold_most = 0;  ///< frames that may be held
  uint32_t plan_generation = 0;
  uint8_t retries = 0;
  FromEnd initiator = FromEnd::kLow;
  Side initiator_side = Side::kAccess;
  policies::ServiceMode mode = policies::ServiceMode::kTerminate;
  policies::Scope scope = policies::Scope::kFlow;
  policies::OnFailure on_failure = policies::OnFailure::kBypass;
  FlowEnd end = FlowEnd::kOpen;
  bool waiting = false;  ///< in the list of waiting flows: for a VM, for its answer, or for its last frames
  bool past_bypass = false;  ///< closing: it was in the bypass
  bool followed = false;     ///< the initiator has acknowledged the answer
  bool relayed = false;      ///< another worker handed its packets to us
  int64_t syn_ns = 0;        ///< waiting time
  int64_t deadline_ns = 0;   ///< waiting time
  int64_t answer_timeout_ns = 0;
  int64_t idle_timeout_ns = 0;
  int64_t seen_ns = 0;              ///< traffic time
  std::array<uint64_t, 2> bytes{};  ///< of TCP payload, by FromEnd
  TcpProgress tcp;
  Address subscriber;
  backend::LinkHeader link;  ///< of the initiator's frames, where the VM's vif adapts the link layer
};

}  // namespace synfluid::gateway
