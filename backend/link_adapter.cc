#include "backend/link_adapter.h"

#include <algorithm>
#include <cstring>

namespace synfluid::backend {

namespace {

constexpr size_t kMacBytes = 6;
constexpr size_t kEthernetBytes = 14;
constexpr uint16_t kEtherIpv4 = 0x0800;
constexpr uint16_t kEtherArp = 0x0806;
constexpr uint16_t kEtherIpv6 = 0x86dd;
constexpr uint16_t kEtherVlan = 0x8100;
constexpr uint16_t kEtherQinQ = 0x88a8;
constexpr uint16_t kEtherQinQOld = 0x9100;
constexpr size_t kTagBytes = 4;

constexpr size_t kArpBytes = 28;
constexpr uint16_t kArpRequest = 1;
constexpr uint16_t kArpReply = 2;

constexpr size_t kIpv6Bytes = 40;
constexpr uint8_t kProtoIcmpv6 = 58;
constexpr uint8_t kNeighbourSolicitation = 135;
constexpr uint8_t kNeighbourAdvertisement = 136;
constexpr size_t kSolicitationBytes = 24;   // without options
constexpr size_t kAdvertisementBytes = 32;  // with the target's link-layer address
constexpr uint8_t kSolicitedOverride = 0x60;
constexpr uint8_t kTargetLinkAddress = 2;

static_assert(kNeighbourAnswerBytes == kEthernetBytes + kIpv6Bytes + kAdvertisementBytes);

uint8_t u8(std::span<const std::byte> bytes, size_t at) {
  return static_cast<uint8_t>(bytes[at]);
}
uint16_t u16(std::span<const std::byte> bytes, size_t at) {
  return static_cast<uint16_t>(u8(bytes, at) << 8 | u8(bytes, at + 1));
}

/// Writes a frame front to back.
class Writer {
 public:
  explicit Writer(std::span<std::byte> out) : out_(out) {}
  Writer& put8(uint8_t v) {
    out_[at_++] = std::byte{v};
    return *this;
  }
  Writer& put16(uint16_t v) { return put8(static_cast<uint8_t>(v >> 8)).put8(static_cast<uint8_t>(v)); }
  Writer& put(std::span<const std::byte> bytes) {
    std::copy(bytes.begin(), bytes.end(), out_.begin() + static_cast<ptrdiff_t>(at_));
    at_ += bytes.size();
    return *this;
  }
  Writer& put(const MacAddress& mac) { return put(std::as_bytes(std::span(mac))); }
  size_t written() const { return at_; }

 private:
  std::span<std::byte> out_;
  size_t at_ = 0;
};

bool all_zero(std::span<const std::byte> bytes) {
  return std::all_of(bytes.begin(), bytes.end(), [](std::byte b) { return b == std::byte{0}; });
}

bool same(std::span<const std::byte> a, std::span<const std::byte> b) {
  return std::equal(a.begin(), a.end(), b.begin(), b.end());
}

size_t answer_arp(std::span<const std::byte> frame, std::span<std::byte> out) {
  if (frame.size() < kEthernetBytes + kArpBytes || out.size() < kEthernetBytes + kArpBytes) return 0;
  const auto arp = frame.subspan(kEthernetBytes, kArpBytes);
  constexpr std::array<uint8_t, 6> kEthernetIpv4 = {0, 1, 8, 0, 6, 4};
  if (std::memcmp(arp.data(), kEthernetIpv4.data(), kEthernetIpv4.size()) != 0 || u16(arp, 6) != kArpRequest)
    return 0;
  const auto sender_mac = arp.subspan(8, kMacBytes);
  const auto sender_ip = arp.subspan(14, 4);
  const auto target_ip = arp.subspan(24, 4);
  if (all_zero(sender_ip) || same(sender_ip, target_ip)) return 0;
  Writer w(out);
  w.put(sender_mac).put(kGatewayMac).put16(kEtherArp);
  w.put(std::as_bytes(std::span(kEthernetIpv4))).put16(kArpReply);
  w.put(kGatewayMac).put(target_ip).put(sender_mac).put(sender_ip);
  return w.written();
}

/// RFC 4443 2.3: over the pseudo header (addresses, length, next header) and the message, checksum field
/// zero.
uint16_t icmpv6_checksum(std::span<const std::byte> addresses, std::span<const std::byte> message) {
  uint32_t sum = static_cast<uint32_t>(message.size()) + kProtoIcmpv6;
  for (size_t i = 0; i < addresses.size(); i += 2) sum += u16(addresses, i);
  for (size_t i = 0; i < message.size(); i += 2) sum += u16(message, i);
  while (sum >> 16 != 0) sum = (sum & 0xffff) + (sum >> 16);
  return static_cast<uint16_t>(~sum);
}

size_t answer_solicitation(std::span<const std::byte> frame, std::span<std::byte> out) {
  if (frame.size() < kEthernetBytes + kIpv6Bytes + kSolicitationBytes || out.size() < kNeighbourAnswerBytes)
    return 0;
  const auto ip = frame.subspan(kEthernetBytes);
  const auto source = ip.subspan(8, 16);
  const auto target = ip.subspan(kIpv6Bytes + 8, 16);
  if (u8(ip, 6) != kProtoIcmpv6 || u8(ip, kIpv6Bytes) != kNeighbourSolicitation || all_zero(source)) return 0;
  Writer w(out);
  w.put(frame.subspan(kMacBytes, kMacBytes)).put(kGatewayMac).put16(kEtherIpv6);
  w.put16(0x6000).put16(0).put16(kAdvertisementBytes).put8(kProtoIcmpv6).put8(255).put(target).put(source);
  w.put8(kNeighbourAdvertisement).put8(0).put16(0).put8(kSolicitedOverride).put8(0).put16(0).put(target);
  w.put8(kTargetLinkAddress).put8(1).put(kGatewayMac);
  const auto message = out.subspan(kEthernetBytes + kIpv6Bytes, kAdvertisementBytes);
  const uint16_t sum = icmpv6_checksum(out.subspan(kEthernetBytes + 8, 32), message);
  message[2] = std::byte(sum >> 8);
  message[3] = std::byte(sum & 0xff);
  return w.written();
}

}  // namespace

LinkHeader LinkHeader::of(std::span<const std::byte> frame, uint16_t l3_offset) noexcept {
  LinkHeader header;
  if (l3_offset > kMaxBytes || l3_offset > frame.size()) return header;
  std::copy_n(frame.begin(), l3_offset, header.bytes_.begin());
  header.length_ = static_cast<uint8_t>(l3_offset);
  return header;
}

LinkHeader LinkHeader::reversed() const noexcept {
  LinkHeader answer = *this;
  std::swap_ranges(answer.bytes_.begin(), answer.bytes_.begin() + kMacBytes,
                   answer.bytes_.begin() + kMacBytes);
  return answer;
}

uint16_t link_header_bytes(std::span<const std::byte> frame) noexcept {
  for (size_t at = kEthernetBytes; at <= LinkHeader::kMaxBytes && at <= frame.size(); at += kTagBytes) {
    const uint16_t type = u16(frame, at - 2);
    if (type == kEtherIpv4 || type == kEtherIpv6) return static_cast<uint16_t>(at);
    if (type != kEtherVlan && type != kEtherQinQ && type != kEtherQinQOld) break;
  }
  return 0;
}

size_t frame_for_guest(std::span<const std::byte> frame, uint16_t l3_offset, const MacAddress& guest,
                       std::span<std::byte> out) noexcept {
  const auto packet = frame.subspan(l3_offset);
  if (packet.empty() || out.size() < kEthernetBytes + packet.size()) return 0;
  const bool v6 = u8(packet, 0) >> 4 == 6;
  return Writer(out).put(guest).put(kGatewayMac).put16(v6 ? kEtherIpv6 : kEtherIpv4).put(packet).written();
}

size_t frame_for_wire(std::span<const std::byte> frame, uint16_t l3_offset, const LinkHeader& header,
                      std::span<std::byte> out) noexcept {
  const auto packet = frame.subspan(l3_offset);
  if (header.empty() || out.size() < header.bytes().size() + packet.size()) return 0;
  return Writer(out).put(header.bytes()).put(packet).written();
}

size_t answer_neighbour_query(std::span<const std::byte> frame, std::span<std::byte> out) noexcept {
  if (frame.size() < kEthernetBytes) return 0;
  switch (u16(frame, 12)) {
    case kEtherArp:
      return answer_arp(frame, out);
    case kEtherIpv6:
      return answer_solicitation(frame, out);
    default:
      return 0;
  }
}

}  // namespace synfluid::backend
