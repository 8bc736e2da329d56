// Bulk receive in our own two modes: what a byte costs when the guest's pages stay mapped, and when they are
// reached by batched grant copy.
//
// One guest of ours, which takes frames of a protocol that it does not know and posts their buffers again, on
// one vif after the other: what stands between vif and guest finds a page by its grant among those that it
// keeps mapped, or copies to it. The guest does not know which; it neither grants nor revokes anything and
// reads the frames where they are. A batch fills the 16 buffers that the guest posts: 16 frames of 1,500
// bytes, or 5 of 9,000 in three buffers each.
//
// Counted are the instructions of dom0 and Xen, and of the guest beside it, less those of as many batches
// without frames, by byte of frames. Figures: MODE_{1500,9000} and guest_MODE_{1500,9000}, instructions a
// byte; persistent_over_copy_bulk_rx, of 1,500 bytes, and persistent_over_copy_bulk_rx_9000; with_guest_…
// counts the guest on both sides.
#pragma once

#include "base/result.h"
#include "bench/report.h"
#include "spawner/hypervisor.h"
#include "spawner/toolstack/xen_calls.h"

namespace synfluid::bench {

struct BulkReceiveConfig {
  int rounds = 3;
  int batches = 50;  ///< of each sample
};

Status measure_bulk_receive(Report& report, spawner::Hypervisor& xen, spawner::toolstack::XenCalls& calls,
                            const BulkReceiveConfig& config);

}  // namespace synfluid::bench
