// Fills in the TCP or UDP checksum that a front end left blank.
//
// A guest whose link needs no checksum (NETTXF_csum_blank) leaves the field to the back end. Frames leave the
// gateway on real links, so the sum is computed here, over the host's own copy of the frame.
//
// Threads: none. Sources: RFC 1071, RFC 768, RFC 9293 3.1, RFC 8200 8.1.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

namespace synfluid::backend {

/// The TCP or UDP packet of a frame. Behind a routing header there is none: its final destination is not in
/// the IPv6 header.
struct TransportPacket {
  uint8_t protocol = 0;  ///< 0: there is none, or not all of it, or only a fragment
  size_t begin = 0;
  size_t end = 0;
  size_t addresses = 0;  ///< source and destination, one behind the other
  size_t address_bytes = 0;
};

/// Of TCP or UDP over IPv4 or IPv6, behind two tags at the most. The transport header itself is not looked
/// at.
TransportPacket find_transport(std::span<const std::byte> frame) noexcept;

/// Computes the checksum and stores it. False: the frame is no whole TCP or UDP packet over IPv4 or IPv6, and
/// was left as it is.
bool fill_checksum(std::span<std::byte> frame) noexcept;

/// The ones' complement sum of `bytes` added to `sum`, not folded. For up to 64 KiB in all.
uint64_t add_to_sum(std::span<const std::byte> bytes, uint64_t sum) noexcept;

/// Folds a sum into the 16 bits that go into a header, in network order once stored as bytes.
uint16_t fold_sum(uint64_t sum) noexcept;

}  // namespace synfluid::backend
