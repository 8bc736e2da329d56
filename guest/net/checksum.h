// The Internet checksum (RFC 1071). Sums of pieces add up as long as every piece but the last has even
// length.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "guest/net/address.h"

namespace synfluid::guest::net {

/// Adds the bytes to a running sum, in the byte order of the machine; finish() makes it a checksum.
uint64_t sum_bytes(std::span<const std::byte> bytes, uint64_t sum = 0);

/// The pseudo header of TCP, UDP and ICMPv6 (RFC 9293 3.1, RFC 8200 8.1).
uint64_t sum_pseudo_header(const IpAddress& source, const IpAddress& destination, uint8_t protocol,
                           uint32_t length);

/// The checksum as it is stored with store_wire16(); 0 over data that includes a right checksum.
uint16_t finish_sum(uint64_t sum);

/// Stores what finish_sum() gave: the sum is in wire order already.
inline void store_checksum(std::byte* at, uint16_t value) {
  copy_bytes(at, &value, sizeof(value));
}

}  // namespace synfluid::guest::net
