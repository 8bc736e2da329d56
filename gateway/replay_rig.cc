#include "gateway/replay_rig.h"

#include "gateway/pcap_source.h"
#include "gateway/warm_up.h"

namespace synfluid::gateway {

namespace {

constexpr uint32_t kPoolFrames = 1024;

std::array<uint64_t, 2> secret_of(uint32_t seed) {
  // Any two words that differ by seed do: a replay has no attacker to hide from, but must repeat itself.
  return {0x9e3779b97f4a7c15ull * (uint64_t{seed} + 1), 0xc2b2ae3d27d4eb4full ^ seed};
}

Result<std::shared_ptr<const spawner::ServiceSet>> prepare_services(ReplayRig& rig,
                                                                    const ReplayConfig& config,
                                                                    spawner::Hypervisor* hypervisor) {
  if (hypervisor == nullptr)
    return std::make_shared<const spawner::ServiceSet>(
        config.policy, std::vector<std::unique_ptr<spawner::PreparedImage>>(), 1);
  if (auto swept = hypervisor->sweep(); !swept) return swept.error();
  auto spawner = spawner::Spawner::create({.hypervisor = *hypervisor, .clock = rig.wall});
  if (!spawner) return spawner.error();
  rig.spawner = std::move(*spawner);
  auto services = rig.spawner->prepare(config.policy);
  if (!services) return services.error();
  warm_up(*hypervisor, **services);
  rig.spawner->activate(*services);
  return services;
}

}  // namespace

Result<std::unique_ptr<ReplayRig>> make_replay_rig(const ReplayConfig& config,
                                                   spawner::Hypervisor* hypervisor) {
  auto rig = std::make_unique<ReplayRig>();
  auto eal = Eal::start({.hugepages = EalConfig::Hugepages::kOff, .memory_mib = 160});
  if (!eal) return eal.error();
  rig->eal = std::move(*eal);
  auto pool = make_pool({.name = "replay", .frames = kPoolFrames, .frame_bytes = kMaxTraceFrameBytes});
  if (!pool) return pool.error();
  rig->pool = std::move(*pool);
  rig->io = std::make_unique<ReplayIo>(*rig->pool);
  rig->trace_clock = std::make_unique<ManualClock>(0);
  rig->admission = std::make_unique<spawner::Admission>(
      spawner::Admission::Config{.limits = config.policy->limits(), .hash_key = secret_of(config.seed)});
  auto services = prepare_services(*rig, config, hypervisor);
  if (!services) return services.error();
  rig->plans = std::make_unique<PlanBox>(Plan{.services = std::move(*services)});
  if (rig->spawner) rig->port = std::make_unique<SpawnerPort>(rig->spawner->port(WorkerId(0)));
  WorkerConfig worker{.id = WorkerId(0),
                      .io = *rig->io,
                      .pool = *rig->pool,
                      .plans = *rig->plans,
                      .traffic_clock = *rig->trace_clock,
                      .waiting_clock = rig->wall,
                      .admission = *rig->admission,
                      .spawner = rig->port.get(),
                      .doorbells = hypervisor != nullptr ? &hypervisor->doorbells(WorkerId(0)) : nullptr,
                      .observer = &rig->records,
                      .held_frames = kPoolFrames / 2,
                      .secret = secret_of(config.seed)};
  auto made = Worker::create(worker);
  if (!made) return made.error();
  rig->worker = std::move(*made);
  return rig;
}

}  // namespace synfluid::gateway
