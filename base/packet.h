// One pass over an Ethernet frame: where its headers are, and which flow it belongs to.
//
// Understands 802.1Q and QinQ (up to two tags), IPv4 with options, IPv6 with extension headers (hop-by-hop,
// routing, destination options, authentication, fragment), TCP. Nothing is copied out but the key; all else
// is offsets from the start of the frame. Untagged IPv4 without options, most of all traffic, is told by two
// words of the frame and takes a short way. No allocation; reads only inside the span it is given.
//
// Sources: IEEE 802.1Q, RFC 791, RFC 8200, RFC 9293.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

#include "base/address.h"

namespace synfluid {

/// What a frame turned out to be. Only kTcp has a key and TCP fields.
enum class PacketKind : uint8_t {
  kTcp,        ///< a whole TCP header was found and is consistent
  kNotIp,      ///< ARP, LLDP, three or more tags, an EtherType we do not read
  kNotTcp,     ///< IP, but another protocol, or one hidden behind ESP
  kFragment,   ///< an IP fragment: the ports may be elsewhere
  kTruncated,  ///< a header says more bytes than the frame has
  kMalformed,  ///< a header contradicts itself (version, header length, data offset)
};

std::string_view to_string(PacketKind kind);

namespace tcp_flag {
inline constexpr uint8_t kFin = 0x01;
inline constexpr uint8_t kSyn = 0x02;
inline constexpr uint8_t kRst = 0x04;
inline constexpr uint8_t kPsh = 0x08;
inline constexpr uint8_t kAck = 0x10;
}  // namespace tcp_flag

/// One cache line: the key first, in whole words.
struct alignas(64) ParsedPacket {
  OrientedKey flow;
  PacketKind kind = PacketKind::kNotIp;
  uint8_t tcp_flags = 0;
  uint16_t l3_offset = 0;       ///< first byte of the IP header
  uint16_t l4_offset = 0;       ///< first byte of the TCP header
  uint16_t payload_offset = 0;  ///< first byte behind the TCP header
  uint16_t payload_length = 0;  ///< by the IP header's length, not the frame's: Ethernet padding is left out
  uint32_t tcp_seq = 0;
  uint32_t tcp_ack = 0;

  /// The first packet of a connection: SYN and nothing that contradicts it.
  bool is_pure_syn() const {
    using namespace tcp_flag;
    return kind == PacketKind::kTcp && (tcp_flags & (kSyn | kAck | kRst | kFin)) == kSyn;
  }
  bool has_flag(uint8_t flag) const { return (tcp_flags & flag) != 0; }
};

static_assert(sizeof(ParsedPacket) == 64);

ParsedPacket parse_packet(std::span<const std::byte> frame) noexcept;

/// The same answer by the general way alone, without the short one for the commonest frames: for comparison.
ParsedPacket parse_packet_by_steps(std::span<const std::byte> frame) noexcept;

}  // namespace synfluid
