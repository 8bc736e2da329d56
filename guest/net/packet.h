// What a received frame is: link header, IP addresses, and where the transport header is.
//
// Understands 802.1Q and QinQ (two tags), IPv4 with options, IPv6 with hop-by-hop, routing, destination and
// authentication headers, and the fragment header of a packet that is whole. Reads only inside the frame;
// checks the IPv4 header's checksum. Sources: RFC 791, RFC 8200, IEEE 802.1Q.
#pragma once

#include <cstdint>
#include <span>

#include "guest/net/address.h"

namespace synfluid::guest::net {

/// An Ethernet header with its tags, as it was on the wire: what an answer needs.
struct LinkHeader {
  static constexpr uint32_t kMaxBytes = 14 + 8;
  uint8_t bytes[kMaxBytes] = {};
  uint8_t length = 0;

  /// The same with the addresses swapped.
  LinkHeader swapped() const;
  /// Tags and EtherType: what must agree for two frames to be of the same network.
  bool same_network(const LinkHeader& other) const {
    return length == other.length && same_bytes(&bytes[12], &other.bytes[12], length - 12u);
  }
};

enum class PacketKind : uint8_t {
  kIp,         ///< IPv4 or IPv6; the transport header is at l4_offset
  kArp,        ///< at l3_offset
  kFragment,   ///< a part of an IP packet
  kOther,      ///< an EtherType or extension header we do not read
  kTruncated,  ///< a header says more bytes than there are
  kMalformed,  ///< a header contradicts itself, or its checksum is wrong
};

inline constexpr uint8_t kProtocolIcmp = 1;
inline constexpr uint8_t kProtocolTcp = 6;
inline constexpr uint8_t kProtocolIcmp6 = 58;

struct Packet {
  PacketKind kind = PacketKind::kOther;
  uint8_t protocol = 0;
  LinkHeader link;
  uint16_t l3_offset = 0;
  uint16_t l4_offset = 0;
  uint16_t l4_length = 0;  ///< by the IP header: Ethernet padding is left out
  IpAddress source;
  IpAddress destination;
};

/// Looks at a frame's first `head` bytes; the frame is `frame_bytes` long (more, when it came in several
/// pieces).
Packet parse_packet(std::span<const std::byte> head, uint32_t frame_bytes);

inline Packet parse_packet(std::span<const std::byte> frame) {
  return parse_packet(frame, static_cast<uint32_t>(frame.size()));
}

/// Writes link and IP header for `l4_length` bytes of `protocol`; returns where the transport header goes.
std::byte* write_ip_header(std::byte* frame, const LinkHeader& link, const IpAddress& source,
                           const IpAddress& destination, uint8_t protocol, uint32_t l4_length);

}  // namespace synfluid::guest::net
