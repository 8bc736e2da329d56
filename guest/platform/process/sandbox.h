// The walls of a guest process: what the zygote builds once for all, and what each guest closes behind
// itself.
//
// Threads: single-threaded programs only. Errors: SandboxError, whose errno is 0 when all went well.
#pragma once

#include <cstdint>

#include "guest/platform/process/zygote.h"

namespace synfluid::guest::process {

struct SandboxError {
  ZygoteStage stage = ZygoteStage::kNone;
  int error = 0;
  bool failed() const { return error != 0; }
};

enum class UserNamespace : uint8_t { kNew, kKept };

/// Moves into an empty, read-only root. Needs a mount namespace of its own.
SandboxError enter_empty_root();

/// Gives up root (where it is root outside any user namespace of its own), every capability and the way back
/// to them.
SandboxError drop_privileges(UserNamespace kind);

/// Makes the caller nobody, if it is root. Before a user namespace is made: inside it would be root's own
/// otherwise.
SandboxError become_nobody();

/// The guest's last step: limits, then the system call filter. Descriptors 0 and 1 are its doorbells, no
/// other is open.
bool seal_guest(uint64_t address_space_bytes);

}  // namespace synfluid::guest::process
