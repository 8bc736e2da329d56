// Packets through ten busy vifs with thousands of idle ones beside them, over the same ten alone.
//
// A worker's own parts: backend::Vif on process links (shared memory, eventfds), one ProcessDoorbells and one
// VifSlots for all. The guests' ends are guest::net::Netfront, run by a thread on a CPU of its own, which
// sends each frame back; the host's end takes turns as gateway::Worker does. Other vifs are busy in each
// round.
//
// Figures: `idle_vifs`, the median of the rounds' ratios, and `busy_vifs_alone`, M frames/s. Where the limit
// of descriptors allows fewer vifs than asked for, the parameter `idle_vifs` says how many there were.
#pragma once

#include "base/result.h"
#include "bench/report.h"

namespace synfluid::bench {

struct IdleVifsConfig {
  uint32_t vifs = 10'000;
  int rounds = 9;
  double seconds = 0.3;  ///< of each sample
  int our_cpu = 0;
  int guests_cpu = 1;
};

Status measure_idle_vifs(Report& report, const IdleVifsConfig& config);

}  // namespace synfluid::bench
