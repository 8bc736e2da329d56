// ControlStore over libxenstore: the socket of any xenstored, C, OCaml or our own.
//
// Threads and errors: as in control_store.h. Ownership: the connection ends with the object.
#pragma once

#include <memory>

#include "base/result.h"
#include "spawner/control_store.h"

namespace synfluid::spawner::xen {

/// Errors: kUnavailable when no store answers, kPermission for others than root.
Result<std::unique_ptr<ControlStore>> open_control_store();

}  // namespace synfluid::spawner::xen
