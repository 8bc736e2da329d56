// Frames for a guest at 10.9.0.2, from 10.9.0.77.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <vector>

namespace synfluid::bench {

using Frame = std::vector<std::byte>;
using Mac = std::array<uint8_t, 6>;

/// Of a protocol for experiments, which no guest speaks.
Frame silent_frame(const Mac& guest, size_t length);
/// ICMP.
Frame echo_request(const Mac& guest, size_t length);
/// The guest asks nobody for our address after this one.
Frame arp_request(const Mac& guest);

}  // namespace synfluid::bench
