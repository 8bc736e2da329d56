#include "guest/net/packet.h"

#include "guest/net/checksum.h"

namespace synfluid::guest::net {
namespace {

constexpr uint16_t kEtherIpv4 = 0x0800;
constexpr uint16_t kEtherArp = 0x0806;
constexpr uint16_t kEtherIpv6 = 0x86dd;
constexpr uint16_t kEtherVlan = 0x8100;
constexpr uint16_t kEtherQinq = 0x88a8;
constexpr uint32_t kEthernetBytes = 14;
constexpr uint32_t kTagBytes = 4;
constexpr uint32_t kIpv4Bytes = 20;
constexpr uint32_t kIpv6Bytes = 40;
constexpr uint8_t kHopLimit = 64;
/// More than any real packet has; a bound on the walk.
constexpr int kMaxExtensionHeaders = 8;

constexpr bool is_tag(uint16_t type) {
  return type == kEtherVlan || type == kEtherQinq;
}

void parse_ipv4(Packet& packet, std::span<const std::byte> head, uint32_t left) {
  const uint32_t at = packet.l3_offset;
  packet.kind = PacketKind::kTruncated;
  if (head.size() < at + kIpv4Bytes) return;
  const std::byte* ip = &head[at];
  const uint32_t header = (load_u8(ip) & 0x0fu) * 4;
  const uint32_t total = load_be16(ip + 2);
  packet.kind = PacketKind::kMalformed;
  if (load_u8(ip) >> 4 != 4 || header < kIpv4Bytes || total < header) return;
  packet.kind = PacketKind::kTruncated;
  if (total > left || head.size() < at + header) return;
  packet.kind = PacketKind::kMalformed;
  if (finish_sum(sum_bytes(head.subspan(at, header))) != 0) return;
  packet.source = IpAddress::from_v4(ip + 12);
  packet.destination = IpAddress::from_v4(ip + 16);
  packet.protocol = load_u8(ip + 9);
  packet.l4_offset = static_cast<uint16_t>(at + header);
  packet.l4_length = static_cast<uint16_t>(total - header);
  const bool fragment = (load_be16(ip + 6) & 0x3fff) != 0;
  packet.kind = fragment ? PacketKind::kFragment : PacketKind::kIp;
}

enum class Step : uint8_t { kNext, kFound, kStop };

/// Walks over one extension header at `at`; `next` is what it is, and then what follows it.
Step skip_extension(Packet& packet, std::span<const std::byte> head, uint32_t& at, uint8_t& next) {
  constexpr uint8_t kHopByHop = 0, kRouting = 43, kFragmentHeader = 44, kAuthentication = 51, kOptions = 60;
  const bool known = next == kHopByHop || next == kRouting || next == kFragmentHeader ||
                     next == kAuthentication || next == kOptions;
  if (!known) return Step::kFound;
  if (head.size() < at + 8) {
    packet.kind = PacketKind::kTruncated;
    return Step::kStop;
  }
  const uint32_t words = load_u8(&head[at + 1]);
  uint32_t length = (words + 1) * 8;
  if (next == kAuthentication) length = (words + 2) * 4;
  if (next == kFragmentHeader) {
    length = 8;
    if ((load_be16(&head[at + 2]) & 0xfff9) != 0) {
      packet.kind = PacketKind::kFragment;
      return Step::kStop;
    }
  }
  next = load_u8(&head[at]);
  at += length;
  return Step::kNext;
}

void parse_ipv6(Packet& packet, std::span<const std::byte> head, uint32_t left) {
  const uint32_t start = packet.l3_offset;
  packet.kind = PacketKind::kTruncated;
  if (head.size() < start + kIpv6Bytes) return;
  const std::byte* ip = &head[start];
  packet.kind = PacketKind::kMalformed;
  if (load_u8(ip) >> 4 != 6) return;
  const uint32_t end = start + kIpv6Bytes + load_be16(ip + 4);
  packet.kind = PacketKind::kTruncated;
  if (end > start + left) return;
  packet.source = IpAddress::from_v6(ip + 8);
  packet.destination = IpAddress::from_v6(ip + 24);
  // Such addresses have no place on a wire (RFC 4291 2.5.5.2), and here they would pass for IPv4.
  if (packet.source.is_v4() || packet.destination.is_v4()) {
    packet.kind = PacketKind::kMalformed;
    return;
  }
  uint32_t at = start + kIpv6Bytes;
  uint8_t next = load_u8(ip + 6);
  packet.kind = PacketKind::kOther;
  for (int i = 0; i < kMaxExtensionHeaders; ++i) {
    const Step step = skip_extension(packet, head, at, next);
    if (step == Step::kStop) return;
    if (step == Step::kNext) continue;
    packet.kind = at > end ? PacketKind::kTruncated : PacketKind::kIp;
    packet.protocol = next;
    packet.l4_offset = static_cast<uint16_t>(at);
    packet.l4_length = static_cast<uint16_t>(at > end ? 0 : end - at);
    return;
  }
}

}  // namespace

LinkHeader LinkHeader::swapped() const {
  LinkHeader out = *this;
  copy_bytes(&out.bytes[0], &bytes[6], 6);
  copy_bytes(&out.bytes[6], &bytes[0], 6);
  return out;
}

Packet parse_packet(std::span<const std::byte> head, uint32_t frame_bytes) {
  Packet packet;
  packet.kind = PacketKind::kTruncated;
  uint32_t at = kEthernetBytes;
  if (head.size() < at) return packet;
  // In pieces of known length: a copy of one that is not takes longer to begin than the rest takes.
  copy_bytes(&packet.link.bytes[0], head.data(), kEthernetBytes);
  uint16_t type = load_be16(&head[at - 2]);
  for (int tags = 0; is_tag(type) && tags < 2; ++tags) {
    if (head.size() < at + kTagBytes) return packet;
    copy_bytes(&packet.link.bytes[at], &head[at], kTagBytes);
    at += kTagBytes;
    type = load_be16(&head[at - 2]);
  }
  packet.link.length = static_cast<uint8_t>(at);
  packet.l3_offset = static_cast<uint16_t>(at);
  packet.kind = PacketKind::kOther;
  if (type == kEtherArp) packet.kind = PacketKind::kArp;
  if (type == kEtherIpv4) parse_ipv4(packet, head, frame_bytes - at);
  if (type == kEtherIpv6) parse_ipv6(packet, head, frame_bytes - at);
  return packet;
}

std::byte* write_ip_header(std::byte* frame, const LinkHeader& link, const IpAddress& source,
                           const IpAddress& destination, uint8_t protocol, uint32_t l4_length) {
  copy_bytes(frame, &link.bytes[0], link.length);
  std::byte* ip = frame + link.length;
  if (source.is_v4()) {
    zero_bytes(ip, kIpv4Bytes);
    store_u8(ip, 0x45);
    store_be16(ip + 2, static_cast<uint16_t>(kIpv4Bytes + l4_length));
    store_be16(ip + 6, 0x4000);  // don't fragment, so that no identification is needed (RFC 6864)
    store_u8(ip + 8, kHopLimit);
    store_u8(ip + 9, protocol);
    copy_bytes(ip + 12, source.v4(), 4);
    copy_bytes(ip + 16, destination.v4(), 4);
    store_checksum(ip + 10, finish_sum(sum_bytes({ip, kIpv4Bytes})));
    return ip + kIpv4Bytes;
  }
  zero_bytes(ip, 8);
  store_u8(ip, 0x60);
  store_be16(ip + 4, static_cast<uint16_t>(l4_length));
  store_u8(ip + 6, protocol);
  store_u8(ip + 7, kHopLimit);
  copy_bytes(ip + 8, &source.bytes[0], 16);
  copy_bytes(ip + 24, &destination.bytes[0], 16);
  return ip + kIpv6Bytes;
}

}  // namespace synfluid::guest::net
