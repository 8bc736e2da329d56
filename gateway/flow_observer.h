// What happens to flows, told as it happens: once or twice in a flow's life, never per packet.
//
// Threads: called by the worker, which must not be kept waiting. References are valid during the call.
#pragma once

#include <cstdint>
#include <optional>

#include "base/drop_reason.h"
#include "gateway/flow_data.h"
#include "spawner/hypervisor.h"

namespace synfluid::gateway {

/// What became of a SYN at once.
enum class SynFate : uint8_t {
  kBypassed,  ///< the policy, or a service's on_failure, lets it pass
  kRefused,   ///< dropped or reset
  kHeld,      ///< it waits for its VM
};

class FlowObserver {
 public:
  virtual ~FlowObserver() = default;
  /// A SYN without an entry was decided on. `refusal`: why it got no VM although the policy names a service.
  virtual void on_syn(const ParsedPacket& syn, const policies::Verdict& verdict, SynFate fate,
                      std::optional<DropReason> refusal) = 0;
  /// The SYN is in the VM's vif.
  virtual void on_vm(const FlowKey& key, spawner::VmId vm, bool pooled, bool shared,
                     int64_t since_syn_ns) = 0;
  /// The VM's first frame of this flow has come.
  virtual void on_answer(const FlowKey& key, int64_t since_syn_ns) = 0;
  /// The flow goes the way of on_failure.
  virtual void on_failure(const FlowKey& key, policies::OnFailure what, DropReason why) = 0;
  virtual void on_end(const FlowKey& key, const FlowData& flow, FlowEnd end) = 0;
};

}  // namespace synfluid::gateway
