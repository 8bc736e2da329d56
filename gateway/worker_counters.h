// What a worker counts. The worker writes, anybody reads, nobody waits.
//
// The books balance at the end of every turn (balance() is zero):
//     rx + from_vm + crafted + handed_in == tx + to_vm + dropped + handed_out + held
// A frame is counted where it ends: one that a VM got and that was later sent past it, because the VM failed,
// counts as tx alone. A frame that is handed to another worker is received by both and counted as handed_out
// and handed_in.
#pragma once

#include <array>
#include <cstdint>

#include "base/drop_reason.h"
#include "gateway/counter.h"
#include "gateway/packet_io.h"

namespace synfluid::gateway {

/// Durations by powers of two, four steps each: percentiles within 19%.
class LatencyHistogram {
 public:
  void add(int64_t ns) noexcept;
  uint64_t count() const noexcept { return count_.get(); }
  int64_t max_ns() const noexcept { return static_cast<int64_t>(max_.get()); }
  /// The upper bound of the step in which the `quantile` (0 to 1) lies; 0 when empty.
  int64_t quantile_ns(double quantile) const noexcept;

 private:
  static constexpr size_t kSteps = 64 * 4;
  std::array<Counter, kSteps> steps_;
  Counter count_;
  Counter max_;
};

struct WorkerCounters {
  // Frames.
  std::array<Counter, kSides> rx;
  std::array<Counter, kSides> tx;
  Counter to_vm;
  Counter from_vm;
  Counter crafted;  ///< resets and challenges that the gateway sent by itself
  Counter held;     ///< now
  Counter handed_out;
  Counter handed_in;
  Counter dropped;
  std::array<Counter, kDropReasonCount> drops;

  // Flows, by what became of their SYN.
  Counter syn_bypassed;
  Counter syn_refused;
  Counter syn_proven;    ///< challenges that were answered
  Counter syn_matched;   ///< the policy named a service
  Counter flows_served;  ///< a VM has answered
  Counter flows_failed;  ///< went to on_failure
  Counter flows_ended;

  // VMs.
  Counter vms_spawned;
  Counter vms_failed;
  Counter vms_returned;
  Counter vms;  ///< now
  Counter vms_peak;

  Counter sleeps;
  LatencyHistogram syn_to_vif;
  LatencyHistogram syn_to_answer;

  uint64_t rx_total() const noexcept { return rx[0].get() + rx[1].get(); }
  uint64_t tx_total() const noexcept { return tx[0].get() + tx[1].get(); }
  /// 0 when every frame is accounted for. Exact only while the worker stands still.
  int64_t balance() const noexcept {
    const uint64_t in = rx_total() + from_vm.get() + crafted.get() + handed_in.get();
    const uint64_t out = tx_total() + to_vm.get() + dropped.get() + handed_out.get() + held.get();
    return static_cast<int64_t>(in - out);
  }
};

}  // namespace synfluid::gateway
