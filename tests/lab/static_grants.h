// A front end with a control ring, on real Xen, played by dom0 on the pages that a guest of ours grants.
//
// The guest never runs; dom0 writes its pages as it would, and netback is told of them by grants. These are
// revoked once they are mapped: then nothing but the map is left, and when it is gone Xen refuses every copy
// and every new map.
//
// Threads: one. Ownership: everything is given back before it returns. Errors: a sentence; empty if all went
// well.
#pragma once

#include <cstdint>
#include <string>

#include "backend/xen/grant_mapper.h"
#include "backend/xen/xen_doorbells.h"
#include "base/strong_id.h"

namespace synfluid {

/// `pages`: of the guest's shared area (base/abi/card.h). What is mapped at the end is left to the link.
std::string use_static_grants(backend::xen::GrantMapper& grants, backend::xen::XenDoorbells& doorbells,
                              DomId guest, uint32_t pages);

/// Its rings and channels are there, and taken by then.
std::string name_no_control_ring(backend::xen::GrantMapper& grants, backend::xen::XenDoorbells& doorbells,
                                 DomId guest, uint32_t pages);

}  // namespace synfluid
