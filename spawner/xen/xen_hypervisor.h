// The hypervisor waist on Xen. No Xen header is needed to include this one.
//
// Threads: as hypervisor.h says; open_xen_hypervisor() belongs to the spawner's thread or comes before it.
// Ownership: the hypervisor outlives its images, its guests and their links. Errors: kUnavailable on a host
// without Xen, kPermission for others than root, kConflict when another gateway runs guests on this host.
#pragma once

#include <cstdint>
#include <memory>

#include "base/result.h"
#include "spawner/hypervisor.h"

namespace synfluid::spawner {

struct XenHypervisorConfig {
  uint16_t workers = 1;  ///< doorbells() is valid for worker ids below this
  /// Event channels that idle turns keep open for guests to come, of all workers together: a burst of so many
  /// flows opens none on its path.
  uint32_t channels_ahead = 1024;
};

/// Whether prepare() of it would take the image. Needs no Xen.
Status check_xen_image(const ImageSpec& spec);

Result<std::unique_ptr<Hypervisor>> open_xen_hypervisor(const XenHypervisorConfig& config);

}  // namespace synfluid::spawner
