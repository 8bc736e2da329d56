#include "base/packet.h"

#include <array>
#include <bit>
#include <cstddef>
#include <cstring>

#include "base/plain_ipv4.h"

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

/// The number that big-endian bytes stand for: words compare as their bytes do.
template <class Word>
Word in_order(Word wire) {
  if constexpr (std::endian::native == std::endian::big) return wire;
  if constexpr (sizeof(Word) == 2) return __builtin_bswap16(wire);
  if constexpr (sizeof(Word) == 4) return __builtin_bswap32(wire);
  if constexpr (sizeof(Word) == 8) return __builtin_bswap64(wire);
}

struct Reader {
  std::span<const std::byte> frame;
  bool has(size_t offset, size_t bytes) const { return offset + bytes <= frame.size(); }
  uint8_t u8(size_t o) const { return static_cast<uint8_t>(frame[o]); }
  uint16_t u16(size_t o) const { return in_order(raw<uint16_t>(o)); }
  uint32_t u32(size_t o) const { return in_order(raw<uint32_t>(o)); }
  /// Sizeof(Word) bytes as they lie there.
  template <class Word>
  Word raw(size_t o) const {
    Word word;
    std::memcpy(&word, frame.data() + o, sizeof word);
    return word;
  }
};

/// An Address as two words in wire order. They stay in registers: an address built byte by byte and then
/// copied as a whole waits for its own stores, several times a packet.
struct WireAddress {
  uint64_t head = 0;
  uint64_t tail = 0;

  static WireAddress from_v4(const Reader& r, size_t at) {
    constexpr uint64_t kMapped = std::endian::native == std::endian::little ? 0xffff0000 : 0xffff;
    const uint64_t v4 = r.raw<uint32_t>(at);
    return {0, std::endian::native == std::endian::little ? v4 << 32 | kMapped : kMapped << 32 | v4};
  }
  static WireAddress from_v6(const Reader& r, size_t at) {
    return {r.raw<uint64_t>(at), r.raw<uint64_t>(at + 8)};
  }
  void store(Address& to) const {
    std::memcpy(to.bytes.data(), &head, sizeof head);
    std::memcpy(to.bytes.data() + sizeof head, &tail, sizeof tail);
  }
};

/// As operator< of Endpoint.
bool is_before(const WireAddress& a, uint16_t a_port, const WireAddress& b, uint16_t b_port) {
  if (a.head != b.head) return in_order(a.head) < in_order(b.head);
  if (a.tail != b.tail) return in_order(a.tail) < in_order(b.tail);
  return a_port < b_port;
}

/// As make_flow_key(), in place.
void write_flow(OrientedKey& flow, const WireAddress& source, uint16_t source_port,
                const WireAddress& destination, uint16_t destination_port, VlanTags vlan) {
  const bool source_low = is_before(source, source_port, destination, destination_port);
  (source_low ? source : destination).store(flow.key.low);
  (source_low ? destination : source).store(flow.key.high);
  flow.key.low_port = source_low ? source_port : destination_port;
  flow.key.high_port = source_low ? destination_port : source_port;
  flow.key.vlan = vlan;
  flow.from = source_low ? FromEnd::kLow : FromEnd::kHigh;
}

bool is_vlan_type(uint16_t type) {
  return type == kEtherVlan || type == kEtherQinQ || type == kEtherQinQOld;
}

/// What the network layer tells the transport layer.
struct NetworkLayer {
  WireAddress source;
  WireAddress destination;
  size_t l4 = 0;
  size_t end = 0;  ///< one past the last byte of the IP packet
};

PacketKind parse_ipv4(const Reader& r, size_t at, NetworkLayer& ip) {
  if (!r.has(at, 20)) return PacketKind::kTruncated;
  const size_t header = size_t{r.u8(at) & 0x0fu} * 4;
  const size_t total = r.u16(at + 2);
  if (r.u8(at) >> 4 != 4 || header < 20 || total < header) return PacketKind::kMalformed;
  if (!r.has(at, total)) return PacketKind::kTruncated;
  if ((r.u16(at + 6) & 0x3fff) != 0) return PacketKind::kFragment;  // more fragments, or an offset
  if (r.u8(at + 9) != kProtoTcp) return PacketKind::kNotTcp;
  ip.source = WireAddress::from_v4(r, at + 12);
  ip.destination = WireAddress::from_v4(r, at + 16);
  ip.l4 = at + header;
  ip.end = at + total;
  return PacketKind::kTcp;
}

PacketKind parse_ipv6(const Reader& r, size_t at, NetworkLayer& ip) {
  if (!r.has(at, 40)) return PacketKind::kTruncated;
  if (r.u8(at) >> 4 != 6) return PacketKind::kMalformed;
  const size_t end = at + 40 + r.u16(at + 4);
  if (end > r.frame.size()) return PacketKind::kTruncated;
  ip.source = WireAddress::from_v6(r, at + 8);
  ip.destination = WireAddress::from_v6(r, at + 24);
  uint8_t next = r.u8(at + 6);
  size_t offset = at + 40;
  for (int headers = 0; next != kProtoTcp; ++headers) {
    if (headers == kMaxExtensionHeaders) return PacketKind::kMalformed;
    if (next != kProtoHopByHop && next != kProtoRouting && next != kProtoDestOptions && next != kProtoAuth &&
        next != kProtoFragment)
      return PacketKind::kNotTcp;
    if (offset + 8 > end) return PacketKind::kTruncated;
    size_t length = size_t{r.u8(offset + 1)} * 8 + 8;
    if (next == kProtoAuth) length = size_t{r.u8(offset + 1)} * 4 + 8;  // RFC 4302 counts in 4-byte units
    if (next == kProtoFragment) {
      // An "atomic" fragment (RFC 6946) is a whole packet; any other one is not.
      if ((r.u16(offset + 2) & 0xfff9) != 0) return PacketKind::kFragment;
      length = 8;
    }
    if (offset + length > end) return PacketKind::kTruncated;
    next = r.u8(offset);
    offset += length;
  }
  ip.l4 = offset;
  ip.end = end;
  return PacketKind::kTcp;
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

namespace {

/// All but the kind, which it returns: so the caller's object is the only one, and nothing is copied.
PacketKind parse(std::span<const std::byte> frame, ParsedPacket& p) {
  // Offsets are 16 bits wide; no link carries a frame that would not fit.
  const Reader r{frame.first(frame.size() < 0xffff ? frame.size() : 0xffff)};
  if (!r.has(0, kEthernetBytes)) return PacketKind::kTruncated;

  size_t at = kEthernetBytes;
  uint16_t type = r.u16(12);
  VlanTags vlan;
  for (int tag = 0; tag < 2 && is_vlan_type(type); ++tag) {
    if (!r.has(at, 4)) return PacketKind::kTruncated;
    (tag == 0 ? vlan.outer : vlan.inner) = static_cast<uint16_t>(r.u16(at) & 0x0fff);
    type = r.u16(at + 2);
    at += 4;
  }
  if (type != kEtherIpv4 && type != kEtherIpv6) return PacketKind::kNotIp;
  p.l3_offset = static_cast<uint16_t>(at);

  NetworkLayer ip;
  const PacketKind kind = type == kEtherIpv4 ? parse_ipv4(r, at, ip) : parse_ipv6(r, at, ip);
  if (kind != PacketKind::kTcp) return kind;

  if (ip.l4 + kTcpBytes > ip.end) return PacketKind::kTruncated;
  const size_t tcp_header = (size_t{r.u8(ip.l4 + 12)} >> 4) * 4;
  if (tcp_header < kTcpBytes) return PacketKind::kMalformed;
  if (ip.l4 + tcp_header > ip.end) return PacketKind::kTruncated;

  p.l4_offset = static_cast<uint16_t>(ip.l4);
  p.payload_offset = static_cast<uint16_t>(ip.l4 + tcp_header);
  p.payload_length = static_cast<uint16_t>(ip.end - ip.l4 - tcp_header);
  p.tcp_flags = r.u8(ip.l4 + 13);
  p.tcp_seq = r.u32(ip.l4 + 4);
  p.tcp_ack = r.u32(ip.l4 + 8);
  write_flow(p.flow, ip.source, r.u16(ip.l4), ip.destination, r.u16(ip.l4 + 2), vlan);
  return PacketKind::kTcp;
}

/// The short way. False: the frame is something else, or broken; nothing is written then.
bool parse_plain_ipv4(std::span<const std::byte> frame, ParsedPacket& p) {
  using namespace plain_ipv4;
  if (frame.size() > 0xffff || !is(frame)) return false;
  const Reader r{frame};
  const size_t total = r.u16(kL3 + 2);
  const size_t tcp_header = (size_t{r.u8(kL4 + 12)} >> 4) * 4;
  const size_t ip_header = kL4 - kL3;
  if (tcp_header < kTcpBytes || ip_header + tcp_header > total || kL3 + total > frame.size()) return false;
  p.kind = PacketKind::kTcp;
  p.tcp_flags = r.u8(kTcpFlags);
  p.l3_offset = kL3;
  p.l4_offset = kL4;
  p.payload_offset = static_cast<uint16_t>(kL4 + tcp_header);
  p.payload_length = static_cast<uint16_t>(total - ip_header - tcp_header);
  p.tcp_seq = r.u32(kL4 + 4);
  p.tcp_ack = r.u32(kL4 + 8);
  const Flow words = flow(frame);
  WireAddress{0, words.low()}.store(p.flow.key.low);
  WireAddress{0, words.high()}.store(p.flow.key.high);
  // Ports and the absent tags in one store: whoever hashes the key next reads them as one word.
  static_assert(offsetof(FlowKey, low_port) + sizeof words.ports == sizeof(FlowKey));
  std::memcpy(reinterpret_cast<std::byte*>(&p.flow.key) + offsetof(FlowKey, low_port), &words.ports,
              sizeof words.ports);
  p.flow.from = words.from;
  return true;
}

}  // namespace

ParsedPacket parse_packet_by_steps(std::span<const std::byte> frame) noexcept {
  ParsedPacket p;
  p.kind = parse(frame, p);
  return p;
}

ParsedPacket parse_packet(std::span<const std::byte> frame) noexcept {
  ParsedPacket p;
  if (!parse_plain_ipv4(frame, p)) p.kind = parse(frame, p);
  return p;
}

}  // namespace synfluid
