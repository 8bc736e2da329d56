#include "backend/checksum.h"

#include <bit>
#include <cstring>

namespace synfluid::backend {

namespace {

constexpr uint16_t kEtherIpv4 = 0x0800;
constexpr uint16_t kEtherIpv6 = 0x86dd;
constexpr uint8_t kTcp = 6;
constexpr uint8_t kUdp = 17;
constexpr int kMaxTags = 2;
constexpr int kMaxExtensionHeaders = 8;
constexpr size_t kEthernetBytes = 14;
constexpr size_t kTcpChecksumAt = 16;
constexpr size_t kUdpChecksumAt = 6;

struct Bytes {
  std::span<const std::byte> data;
  uint8_t u8(size_t at) const { return static_cast<uint8_t>(data[at]); }
  uint16_t u16(size_t at) const { return static_cast<uint16_t>(u8(at) << 8 | u8(at + 1)); }
};

size_t skip_tags(const Bytes& b, uint16_t& type) {
  size_t at = kEthernetBytes;
  type = b.u16(12);
  for (int i = 0; i < kMaxTags && (type == 0x8100 || type == 0x88a8 || type == 0x9100); ++i) {
    if (at + 4 > b.data.size()) return 0;
    type = b.u16(at + 2);
    at += 4;
  }
  return at;
}

TransportPacket find_in_ipv4(const Bytes& b, size_t at) {
  if (at + 20 > b.data.size() || b.u8(at) >> 4 != 4) return {};
  const size_t header = size_t{b.u8(at) & 0x0fu} * 4;
  const size_t total = b.u16(at + 2);
  const bool is_fragment = (b.u16(at + 6) & 0x3fff) != 0;
  if (header < 20 || total < header || at + total > b.data.size() || is_fragment) return {};
  return {b.u8(at + 9), at + header, at + total, at + 12, 8};
}

/// Hop-by-hop and destination options. Behind a routing header the final destination is not in the IPv6
/// header.
bool is_skippable(uint8_t next) {
  return next == 0 || next == 60;
}

TransportPacket find_in_ipv6(const Bytes& b, size_t at) {
  if (at + 40 > b.data.size() || b.u8(at) >> 4 != 6) return {};
  const size_t end = at + 40 + b.u16(at + 4);
  if (end > b.data.size()) return {};
  uint8_t next = b.u8(at + 6);
  size_t begin = at + 40;
  for (int i = 0; i < kMaxExtensionHeaders && is_skippable(next); ++i) {
    if (begin + 8 > end) return {};
    const size_t length = size_t{b.u8(begin + 1)} * 8 + 8;
    if (begin + length > end) return {};
    next = b.u8(begin);
    begin += length;
  }
  return {next, begin, end, at + 8, 32};
}

TransportPacket find_packet(const Bytes& b) {
  if (b.data.size() < kEthernetBytes) return {};
  uint16_t type = 0;
  const size_t at = skip_tags(b, type);
  if (at == 0) return {};
  if (type == kEtherIpv4) return find_in_ipv4(b, at);
  if (type == kEtherIpv6) return find_in_ipv6(b, at);
  return {};
}

}  // namespace

TransportPacket find_transport(std::span<const std::byte> frame) noexcept {
  const TransportPacket packet = find_packet({frame});
  if (packet.protocol != kTcp && packet.protocol != kUdp) return {};
  return packet;
}

uint64_t add_to_sum(std::span<const std::byte> bytes, uint64_t sum) noexcept {
  // Ones' complement addition may be done in wider words and folded afterwards (RFC 1071 2.C); 32-bit words
  // in a 64-bit sum cannot overflow below 16 GiB.
  size_t at = 0;
  for (; at + 4 <= bytes.size(); at += 4) {
    uint32_t word;
    std::memcpy(&word, bytes.data() + at, sizeof(word));
    sum += word;
  }
  if (at < bytes.size()) {
    uint32_t word = 0;
    std::memcpy(&word, bytes.data() + at, bytes.size() - at);
    sum += word;
  }
  return sum;
}

uint16_t fold_sum(uint64_t sum) noexcept {
  while (sum >> 16 != 0) sum = (sum & 0xffff) + (sum >> 16);
  return static_cast<uint16_t>(~sum);
}

bool fill_checksum(std::span<std::byte> frame) noexcept {
  const TransportPacket t = find_transport(frame);
  if (t.protocol == 0) return false;
  const size_t field = t.begin + (t.protocol == kTcp ? kTcpChecksumAt : kUdpChecksumAt);
  const size_t minimum = t.protocol == kTcp ? 20 : 8;
  if (t.end - t.begin < minimum) return false;

  const size_t length = t.end - t.begin;
  const std::byte pseudo[4] = {std::byte{0}, std::byte{t.protocol}, static_cast<std::byte>(length >> 8),
                               static_cast<std::byte>(length)};
  std::memset(frame.data() + field, 0, 2);
  uint64_t sum = add_to_sum(pseudo, 0);
  sum = add_to_sum(frame.subspan(t.addresses, t.address_bytes), sum);
  sum = add_to_sum(frame.subspan(t.begin, length), sum);
  uint16_t result = fold_sum(sum);
  if (result == 0 && t.protocol == kUdp) result = 0xffff;  // zero on the wire means "no checksum"
  std::memcpy(frame.data() + field, &result, sizeof(result));
  return true;
}

}  // namespace synfluid::backend
