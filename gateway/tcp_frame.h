// Builds TCP frames: resets that the gateway sends by itself, and what a replayed client sends.
//
// The link-layer header (addresses, tags, EtherType) is copied from a frame that was seen; the rest is
// written anew, with its checksums. Pure functions, no allocation. Sources: RFC 791, RFC 8200, RFC 9293.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "base/packet.h"

namespace synfluid::gateway {

/// Ethernet with two tags, IPv6, TCP without options.
inline constexpr size_t kMaxTcpHeaders = 14 + 8 + 40 + 20;
inline constexpr size_t kMaxTcpOptions = 40;

struct TcpFrame {
  std::span<const std::byte> link_header;  ///< up to the IP header; the addresses as they are to be sent
  uint8_t ip_version = 4;
  Endpoint source;
  Endpoint destination;
  uint32_t seq = 0;
  uint32_t ack = 0;
  uint8_t flags = 0;
  uint16_t window = 0;
  std::span<const std::byte> options = {};  ///< a multiple of four bytes
  std::span<const std::byte> payload = {};
};

/// Writes the frame to `into` and returns its length; 0 if it does not fit.
size_t write_tcp_frame(const TcpFrame& frame, std::span<std::byte> into) noexcept;

/// 4 or 6, of a frame that parsed as TCP.
uint8_t ip_version_of(std::span<const std::byte> frame, const ParsedPacket& packet) noexcept;

/// Writes a SYN/ACK to the client whose SYN is `packet`, parsed from `frame`, to `into` and returns its
/// length; 0 as for write_reset(). It acknowledges `ack`, whatever the client has sent.
size_t write_syn_ack(std::span<const std::byte> frame, const ParsedPacket& packet, uint32_t ack,
                     std::span<std::byte> into) noexcept;

/// Writes the reset that answers `packet`, which was parsed from `frame`, to `into` and returns its length.
/// 0: there is none, since resets are not answered, or since it does not fit (kMaxTcpHeaders are always
/// enough), or since `frame` is not what was parsed. By RFC 9293 3.10.7.1.
size_t write_reset(std::span<const std::byte> frame, const ParsedPacket& packet,
                   std::span<std::byte> into) noexcept;

}  // namespace synfluid::gateway
