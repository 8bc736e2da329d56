// The hypervisor for hosts without Xen: guests are sandboxed processes, forked from a zygote.
//
// A guest here is not a VM: it shares the host's kernel. Its walls are empty namespaces, no privilege, and a
// filter that leaves it read and write on two eventfds, ppoll, the clock and exit; its only memory from
// outside is the shared area of base/abi/card.h. It runs the built-in services over the same rings as a
// domain of Xen.
//
// create() does not wait for the fork: the area, the rings and the doorbells are there at once, the guest
// finds them when it has been made. That the kernel refuses to make it is told by an event, like a crash.
//
// Memory: half of a service's `memory` is the shared area (card, rings, as many buffers as fit, at most 256),
// half the guest's own; at least 160 KiB in all. Counted until the process is gone. Domain ids are handed out
// downwards from 32,751, as on Xen; one comes back when its guest is gone. Nothing survives the gateway: the
// zygote ends with its socket, and its guests with it. sweep() has nothing to do.
//
// Threads: as hypervisor.h. Errors: Result; probe_process_hypervisor() says what the host refuses, and the
// remedy.
#pragma once

#include <cstdint>
#include <memory>

#include "base/result.h"
#include "spawner/hypervisor.h"

namespace synfluid::spawner {

struct ProcessHypervisorConfig {
  uint16_t workers = 1;
  /// For all guests together; 0 takes what /proc/meminfo calls available.
  uint64_t memory_limit_bytes = 0;
};

/// Starts the zygote; raises this process' limit of descriptors to what it may.
Result<std::unique_ptr<Hypervisor>> make_process_hypervisor(const ProcessHypervisorConfig& config);

/// Whether prepare() of it would take the image.
Status check_process_image(const ImageSpec& spec);

/// Starts a zygote and ends it: whether guests could run here.
Status probe_process_hypervisor();

}  // namespace synfluid::spawner
