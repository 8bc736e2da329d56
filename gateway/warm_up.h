// The first guest costs a system what no later one does; better before the first SYN than under it.
//
// On Xen it is the kernel's memory for foreign pages and Xen's own for grant maps: tens of milliseconds after
// a boot. Threads: the one that has prepared the services, before the spawner starts. Errors: none; what does
// not work here is told when a SYN asks for it.
#pragma once

#include "spawner/hypervisor.h"
#include "spawner/spawner.h"

namespace synfluid::gateway {

/// Builds one guest of the first service with an image of ours, connects its vif and destroys it, before it
/// has run.
void warm_up(spawner::Hypervisor& hypervisor, const spawner::ServiceSet& services);

}  // namespace synfluid::gateway
