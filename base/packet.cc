#include "base/packet.h"

namespace synfluid {

namespace {

constexpr uint16_t kEtherVlan = 0x8100;
constexpr uint16_t kEtherQinQ = 0x88a8;
constexpr uint16_t kEtherQinQOld = 0x9100;
constexpr uint16_t kEtherIpv4 = 0x0800;
constexpr uint16_t kEtherIpv6 = 0x86dd;

constexpr uint8_t kProtoTcp = 6;
constexpr uint8_t kProtoHopByHop = 0;
constexpr uint8_t kProtoRouting = 43;
constexpr uint8_t kProtoFragment = 44;
constexpr uint8_t kProtoAuth = 51;
constexpr uint8_t kProtoDestOptions = 60;

/// RFC 8200 names five extension headers, one of them twice; a longer chain is an attack on parsers.
constexpr int kMaxExtensionHeaders = 8;

constexpr size_t kEthernetBytes = 14;
constexpr size_t kTcpBytes = 20;

struct Reader {
  std::span<const std::byte> frame;
  bool has(size_t offset, size_t bytes) const { return offset + bytes <= frame.size(); }
  uint8_t u8(size_t o) const { return static_cast<uint8_t>(frame[o]); }
  uint16_t u16(size_t o) const { return static_cast<uint16_t>(u8(o) << 8 | u8(o + 1)); }
  uint32_t u32(size_t o) const { return static_cast<uint32_t>(u16(o)) << 16 | u16(o + 2); }
  template <size_t N>
  std::span<const uint8_t, N> bytes(size_t o) const {
    return std::span<const uint8_t, N>(reinterpret_cast<const uint8_t*>(frame.data() + o), N);
  }
};

bool is_vlan_type(uint16_t type) {
  return type == kEtherVlan || type == kEtherQinQ || type == kEtherQinQOld;
}

/// What the network layer tells the transport layer.
struct NetworkLayer {
  PacketKind kind = PacketKind::kTcp;
  Address source;
  Address destination;
  size_t l4 = 0;
  size_t end = 0;  ///< one past the last byte of the IP packet
};

NetworkLayer parse_ipv4(const Reader& r, size_t at) {
  NetworkLayer ip;
  const auto fail = [&](PacketKind kind) {
    ip.kind = kind;
    return ip;
  };
  if (!r.has(at, 20)) return fail(PacketKind::kTruncated);
  const size_t header = size_t{r.u8(at) & 0x0fu} * 4;
  const size_t total = r.u16(at + 2);
  if (r.u8(at) >> 4 != 4 || header < 20 || total < header) return fail(PacketKind::kMalformed);
  if (!r.has(at, total)) return fail(PacketKind::kTruncated);
  if ((r.u16(at + 6) & 0x3fff) != 0) return fail(PacketKind::kFragment);  // more fragments, or an offset
  if (r.u8(at + 9) != kProtoTcp) return fail(PacketKind::kNotTcp);
  ip.source = Address::from_v4(r.bytes<4>(at + 12));
  ip.destination = Address::from_v4(r.bytes<4>(at + 16));
  ip.l4 = at + header;
  ip.end = at + total;
  return ip;
}

NetworkLayer parse_ipv6(const Reader& r, size_t at) {
  NetworkLayer ip;
  const auto fail = [&](PacketKind kind) {
    ip.kind = kind;
    return ip;
  };
  if (!r.has(at, 40)) return fail(PacketKind::kTruncated);
  if (r.u8(at) >> 4 != 6) return fail(PacketKind::kMalformed);
  const size_t end = at + 40 + r.u16(at + 4);
  if (end > r.frame.size()) return fail(PacketKind::kTruncated);
  ip.source = Address::from_v6(r.bytes<16>(at + 8));
  ip.destination = Address::from_v6(r.bytes<16>(at + 24));
  uint8_t next = r.u8(at + 6);
  size_t offset = at + 40;
  for (int headers = 0; next != kProtoTcp; ++headers) {
    if (headers == kMaxExtensionHeaders) return fail(PacketKind::kMalformed);
    if (next != kProtoHopByHop && next != kProtoRouting && next != kProtoDestOptions && next != kProtoAuth &&
        next != kProtoFragment)
      return fail(PacketKind::kNotTcp);
    if (offset + 8 > end) return fail(PacketKind::kTruncated);
    size_t length = size_t{r.u8(offset + 1)} * 8 + 8;
    if (next == kProtoAuth) length = size_t{r.u8(offset + 1)} * 4 + 8;  // RFC 4302 counts in 4-byte units
    if (next == kProtoFragment) {
      // An "atomic" fragment (RFC 6946) is a whole packet; any other one is not.
      if ((r.u16(offset + 2) & 0xfff9) != 0) return fail(PacketKind::kFragment);
      length = 8;
    }
    if (offset + length > end) return fail(PacketKind::kTruncated);
    next = r.u8(offset);
    offset += length;
  }
  ip.l4 = offset;
  ip.end = end;
  return ip;
}

}  // namespace

std::string_view to_string(PacketKind kind) {
  switch (kind) {
    case PacketKind::kTcp:
      return "tcp";
    case PacketKind::kNotIp:
      return "not_ip";
    case PacketKind::kNotTcp:
      return "not_tcp";
    case PacketKind::kFragment:
      return "fragment";
    case PacketKind::kTruncated:
      return "truncated";
    case PacketKind::kMalformed:
      return "malformed";
  }
  return "unknown";
}

ParsedPacket parse_packet(std::span<const std::byte> frame) noexcept {
  ParsedPacket p;
  const auto fail = [&](PacketKind kind) {
    p.kind = kind;
    return p;
  };
  // Offsets are 16 bits wide; no link carries a frame that would not fit.
  const Reader r{frame.first(frame.size() < 0xffff ? frame.size() : 0xffff)};
  if (!r.has(0, kEthernetBytes)) return fail(PacketKind::kTruncated);

  size_t at = kEthernetBytes;
  uint16_t type = r.u16(12);
  VlanTags vlan;
  for (int tag = 0; tag < 2 && is_vlan_type(type); ++tag) {
    if (!r.has(at, 4)) return fail(PacketKind::kTruncated);
    (tag == 0 ? vlan.outer : vlan.inner) = static_cast<uint16_t>(r.u16(at) & 0x0fff);
    type = r.u16(at + 2);
    at += 4;
  }
  if (type != kEtherIpv4 && type != kEtherIpv6) return fail(PacketKind::kNotIp);
  p.l3_offset = static_cast<uint16_t>(at);

  const NetworkLayer ip = type == kEtherIpv4 ? parse_ipv4(r, at) : parse_ipv6(r, at);
  if (ip.kind != PacketKind::kTcp) return fail(ip.kind);

  if (ip.l4 + kTcpBytes > ip.end) return fail(PacketKind::kTruncated);
  const size_t tcp_header = (size_t{r.u8(ip.l4 + 12)} >> 4) * 4;
  if (tcp_header < kTcpBytes) return fail(PacketKind::kMalformed);
  if (ip.l4 + tcp_header > ip.end) return fail(PacketKind::kTruncated);

  p.kind = PacketKind::kTcp;
  p.l4_offset = static_cast<uint16_t>(ip.l4);
  p.payload_offset = static_cast<uint16_t>(ip.l4 + tcp_header);
  p.payload_length = static_cast<uint16_t>(ip.end - ip.l4 - tcp_header);
  p.tcp_flags = r.u8(ip.l4 + 13);
  p.tcp_seq = r.u32(ip.l4 + 4);
  p.tcp_ack = r.u32(ip.l4 + 8);
  p.flow = make_flow_key({ip.source, r.u16(ip.l4)}, {ip.destination, r.u16(ip.l4 + 2)}, vlan);
  return p;
}

}  // namespace synfluid
