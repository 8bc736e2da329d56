// Plays a capture through one worker, on real VMs or sandboxed guests, as if it came from two wires.
//
// Order is the trace's, and strict: a packet is played when all before it have had their effect (a VM found
// or refused, a played client's data acknowledged, an inline VM's packet returned). So the same trace, policy
// and seed give the same decisions however fast guests are, and nothing overflows. Traffic time (admission,
// idleness) is the trace's own. Threads: one; worker and spawner take turns in it. Errors: one line. The
// trace is read through once before anything is played, so a broken record costs no VM.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/address.h"
#include "base/result.h"
#include "gateway/interrupt.h"
#include "policies/policy.h"
#include "spawner/hypervisor.h"

namespace synfluid::gateway {

/// What becomes of a replay whose trace has malformed packets. They are played and counted either way.
enum class OnMalformed : uint8_t {
  kError,  ///< it goes to its end, its reports are written, and it fails with the first one's record
  kPass,
};

struct ReplayConfig {
  std::string trace;        ///< a path, "-" for stdin
  std::string policy_file;  ///< for the report
  std::shared_ptr<const policies::Policy> policy;
  std::optional<double> speed;  ///< 1 is the trace's own time; nothing: as fast as it goes
  uint32_t loops = 1;
  uint32_t seed = 1;
  OnMalformed malformed = OnMalformed::kError;
  std::string json;  ///< a path, "-" for stdout, empty for none
  std::string csv;
  std::string out;
  std::vector<Prefix>
      access_prefixes;  ///< whose sources are on the access side; empty: who sends the first SYN is
};

/// `hypervisor` may be null when the policy has no services. Once `interrupt` has come nothing more is
/// played; what was is reported.
Status replay(const ReplayConfig& config, spawner::Hypervisor* hypervisor, const Interrupt& interrupt);

}  // namespace synfluid::gateway
