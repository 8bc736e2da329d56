// Frames that come out of the kernel of this very host may carry only the beginning of their TCP or UDP
// checksum: the sum over the pseudo header, which a network card would have completed (CHECKSUM_PARTIAL). On
// a wire they would be broken.
#pragma once

#include <cstddef>
#include <span>

namespace synfluid::gateway {

/// Completes the checksum if it is the pseudo header's sum and nothing more. True if it changed the frame.
bool complete_partial_checksum(std::span<std::byte> frame) noexcept;

/// Computes an IPv4 header checksum that was left zero, as captures on the sending host have it. True if it
/// changed the frame.
bool complete_ipv4_checksum(std::span<std::byte> frame) noexcept;

}  // namespace synfluid::gateway
