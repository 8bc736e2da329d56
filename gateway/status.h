// The gateway's counters as JSON, for the control socket.
#pragma once

#include <span>
#include <vector>

#include <nlohmann/json_fwd.hpp>

#include "gateway/port_device.h"
#include "gateway/worker.h"
#include "spawner/spawner.h"

namespace synfluid::gateway {

/// One worker's share; `status_of_all` adds them up.
nlohmann::json status_of_all(std::span<const Worker* const> workers, const spawner::SpawnerCounters& spawner);
nlohmann::json to_json(const PortLosses& losses);
nlohmann::json describe_vms(const std::vector<spawner::VmInfo>& vms, int64_t now_ns);
nlohmann::json describe_flows(const std::vector<Worker::FlowLine>& flows, size_t worker);

}  // namespace synfluid::gateway
