// One TCP segment, as received.
#pragma once

#include <cstdint>
#include <span>

#include "guest/net/packet.h"

namespace synfluid::guest::net {

inline constexpr uint8_t kFin = 0x01;
inline constexpr uint8_t kSyn = 0x02;
inline constexpr uint8_t kRst = 0x04;
inline constexpr uint8_t kPsh = 0x08;
inline constexpr uint8_t kAck = 0x10;
inline constexpr uint8_t kUrg = 0x20;

inline constexpr uint32_t kTcpHeaderBytes = 20;

/// What we say we can receive, and the most we send: an Ethernet frame's worth.
inline uint16_t own_mss(const IpAddress& peer) {
  return peer.is_v4() ? 1460 : 1440;
}

struct Segment {
  Endpoint from;
  Endpoint to;
  uint32_t seq = 0;
  uint32_t ack = 0;
  uint16_t window = 0;  ///< as it is in the header, not scaled
  uint8_t flags = 0;
  bool has_window_scale = false;
  uint8_t window_scale = 0;
  uint16_t mss = 0;  ///< 0: the option is not there
  std::span<const std::byte> payload;

  bool has(uint8_t flag) const { return (flags & flag) != 0; }
  /// What it takes of the sequence space.
  uint32_t length() const {
    return static_cast<uint32_t>(payload.size()) + (has(kSyn) ? 1u : 0u) + (has(kFin) ? 1u : 0u);
  }
};

enum class ChecksumCheck : uint8_t { kVerify, kTrusted };
enum class SegmentVerdict : uint8_t { kGood, kMalformed, kBadChecksum };

/// `packet` is a kIp packet of protocol TCP and `frame` is whole.
SegmentVerdict parse_segment(std::span<const std::byte> frame, const Packet& packet, ChecksumCheck check,
                             Segment& segment);

}  // namespace synfluid::guest::net
