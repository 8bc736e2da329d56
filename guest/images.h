// The built-in guest images, embedded in the host program, so that there is no file to lose.
//
// Static data: any thread, for ever. An image that this build does not have is an empty span.
#pragma once

#include <cstddef>
#include <span>

namespace synfluid::guest {

/// The PV unikernel: an ELF for Xen's 64-bit PV start.
std::span<const std::byte> xen_image();

/// The zygote (guest/platform/process/zygote.h): a static ELF, to be run from a memfd.
std::span<const std::byte> process_image();

}  // namespace synfluid::guest
