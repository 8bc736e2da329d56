// Builds the domain of a foreign guest by libxenguest: kernel, ramdisk, command line, console and store
// rings.
//
// Threads: one thread. Ownership: a ForeignDomain owns its domain: it goes with the object. What ends domains
// must outlive it. Errors: Result, nothing left behind; each names the step. Source: Xen's libxenguest
// (xenguest.h); the order of its calls is fixed by the library.
#pragma once

#include <cstdint>
#include <memory>

#include "base/result.h"
#include "base/strong_id.h"
#include "spawner/toolstack/domain_builder.h"
#include "spawner/xen/foreign_image.h"

namespace synfluid::spawner::xen {

/// Grant references that every PV guest keeps for its two rings.
inline constexpr uint32_t kConsoleGrant = 0;
inline constexpr uint32_t kStoreGrant = 1;

struct ForeignDomain {
  toolstack::OwnedDomain domain;
  uint64_t store_frame = 0;
  EventPort store_port = {};  ///< the guest's ends, for us to bind
  EventPort console_port = {};
};

class ForeignBuilder {
 public:
  virtual ~ForeignBuilder() = default;
  /// A paused domain.
  virtual Result<ForeignDomain> build(const ForeignImage& image, uint32_t generation) = 0;
};

/// Errors: kUnavailable without Xen, kPermission for others than root.
Result<std::unique_ptr<ForeignBuilder>> open_foreign_builder(toolstack::DomainEnder& ender);

}  // namespace synfluid::spawner::xen
