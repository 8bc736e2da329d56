// What a replay runs on: one worker, its ports, the spawner, and two clocks, with no thread but the caller's.
//
// Threads: one. Ownership: the members in the order in which they depend on each other; they go in reverse.
// The hypervisor outlives the rig. Errors: one line, with nothing left behind.
#pragma once

#include <memory>

#include "gateway/eal.h"
#include "gateway/replay.h"
#include "gateway/replay_io.h"
#include "gateway/replay_report.h"
#include "gateway/worker.h"

namespace synfluid::gateway {

struct ReplayRig {
  std::unique_ptr<Eal> eal;
  MbufPool pool;
  std::unique_ptr<ReplayIo> io;
  std::unique_ptr<ManualClock> trace_clock;
  SteadyClock wall;
  std::unique_ptr<spawner::Admission> admission;
  std::unique_ptr<spawner::Spawner> spawner;
  std::unique_ptr<PlanBox> plans;
  std::unique_ptr<SpawnerPort> port;
  FlowRecords records;
  std::unique_ptr<Worker> worker;
};

Result<std::unique_ptr<ReplayRig>> make_replay_rig(const ReplayConfig& config,
                                                   spawner::Hypervisor* hypervisor);

}  // namespace synfluid::gateway
