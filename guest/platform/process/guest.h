// A guest as a process: what the zygote's child becomes.
#pragma once

#include "guest/platform/platform.h"
#include "guest/platform/process/zygote.h"

namespace synfluid::guest::process {

/// The descriptors that came with a request.
struct GuestFds {
  int fd[kZygoteFds] = {-1, -1, -1};
};

/// Turns the calling process into a guest. Every other descriptor of the process is closed.
[[noreturn]] void become_guest(const ZygoteRequest& request, const GuestFds& fds);

/// What a sealed and started guest runs: guest_main() in the product, other things in the image that tests
/// the walls.
[[noreturn]] void sealed_main(Platform& platform);

}  // namespace synfluid::guest::process
