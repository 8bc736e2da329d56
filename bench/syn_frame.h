// A client's SYN as it comes from the wire, for programs that play the worker.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

namespace synfluid::bench {

inline constexpr size_t kSynBytes = 14 + 20 + 20;

/// Ethernet, IPv4, TCP; from an address and port chosen by `client`, to 192.0.2.1:80.
std::array<std::byte, kSynBytes> make_syn(uint32_t client);

/// The same client takes its SYN back: who has answered it need not send again.
std::array<std::byte, kSynBytes> make_reset(uint32_t client);

/// True for an IPv4 TCP frame with SYN and ACK set.
bool is_synack(std::span<const std::byte> frame);

/// True for a SYN/ACK from where `syn` went to where it came from: not another client's, not one sent again.
bool is_synack_to(std::span<const std::byte, kSynBytes> syn, std::span<const std::byte> frame);

}  // namespace synfluid::bench
