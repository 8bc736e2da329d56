// The key by which devices with RSS spread flows over their queues: symmetric, and drawn for each boot.
//
// A Toeplitz key that repeats itself every 16 bits hashes the XOR of a packet's 16-bit words, so both
// directions of a flow alike (Woo and Park, "Scalable TCP Session Monitoring with Symmetric Receive-Side
// Scaling", 2012). The hash is then that XOR times a circulant matrix of the key's 16 bits; x^16 - 1 being
// (x - 1)^16 over GF(2), the matrix can be inverted exactly where the number of ones is odd. Only such keys
// are made: none lets two XORs share a hash.
//
// The secret hides which queue a flow meets, not that two flows meet the same one: who can choose addresses
// and ports freely can make flows of one XOR, whatever the key. Devices leave no better choice; spread.h,
// which is ours, has it.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

namespace synfluid::gateway {

/// As many bytes as the longest key that DPDK's drivers take; a device is given the front of it.
using RssKey = std::array<uint8_t, 52>;

/// Of the 16 bits, the last one is chosen so that the number of ones is odd.
RssKey symmetric_rss_key(uint16_t secret) noexcept;

}  // namespace synfluid::gateway
