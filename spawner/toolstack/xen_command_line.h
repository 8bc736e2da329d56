// What Xen was booted with.
//
// Threads: any. Errors: one line; dom0 alone may ask.
#pragma once

#include <string>

#include "base/result.h"

namespace synfluid::spawner::toolstack {

/// Xen's own command line, not that of dom0's kernel.
Result<std::string> xen_command_line();

}  // namespace synfluid::spawner::toolstack
