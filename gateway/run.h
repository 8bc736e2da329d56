// `synfluid run`: the gateway on the wire, from ports to SIGTERM.
//
// Threads: workers on DPDK's lcores, the spawner's own, and this one, which does control: socket, signals,
// reload. Order of set-up: ports, spawner, workers, control; undone in reverse. Errors: one line, with
// nothing left behind.
#pragma once

#include <memory>
#include <string>

#include "base/result.h"
#include "policies/policy.h"
#include "spawner/hypervisor.h"

namespace synfluid::gateway {

inline constexpr char kDefaultControlSocket[] = "/run/synfluid.sock";

struct RunConfig {
  std::string policy_file;
  std::shared_ptr<const policies::Policy> policy;
  std::string access;
  std::string core;
  std::string control = kDefaultControlSocket;
  uint16_t workers = 1;
  uint32_t flow_capacity = 65'536;
  bool no_huge = false;
};

/// Returns after SIGTERM or SIGINT, when every VM is gone.
Status run_gateway(const RunConfig& config, spawner::Hypervisor& hypervisor);

}  // namespace synfluid::gateway
