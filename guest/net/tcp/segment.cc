#include "guest/net/tcp/segment.h"

#include "guest/net/checksum.h"

namespace synfluid::guest::net {
namespace {

constexpr uint8_t kOptionEnd = 0, kOptionNop = 1, kOptionMss = 2, kOptionWindowScale = 3;
constexpr uint8_t kMaxWindowScale = 14;  // RFC 7323 2.3

void parse_options(std::span<const std::byte> options, Segment& segment) {
  for (size_t at = 0; at < options.size();) {
    const uint8_t kind = load_u8(&options[at]);
    if (kind == kOptionEnd) return;
    if (kind == kOptionNop) {
      ++at;
      continue;
    }
    if (at + 1 >= options.size()) return;
    const size_t length = load_u8(&options[at + 1]);
    if (length < 2 || at + length > options.size()) return;
    if (kind == kOptionMss && length == 4) segment.mss = load_be16(&options[at + 2]);
    if (kind == kOptionWindowScale && length == 3) {
      segment.has_window_scale = true;
      const uint8_t shift = load_u8(&options[at + 2]);
      segment.window_scale = shift < kMaxWindowScale ? shift : kMaxWindowScale;
    }
    at += length;
  }
}

}  // namespace

SegmentVerdict parse_segment(std::span<const std::byte> frame, const Packet& packet, ChecksumCheck check,
                             Segment& segment) {
  const uint32_t length = packet.l4_length;
  if (length < kTcpHeaderBytes || frame.size() < packet.l4_offset + length) return SegmentVerdict::kMalformed;
  const auto bytes = frame.subspan(packet.l4_offset, length);
  const std::byte* tcp = bytes.data();
  const uint32_t header = (load_u8(tcp + 12) >> 4) * 4u;
  if (header < kTcpHeaderBytes || header > length) return SegmentVerdict::kMalformed;
  if (check == ChecksumCheck::kVerify) {
    const uint64_t pseudo = sum_pseudo_header(packet.source, packet.destination, kProtocolTcp, length);
    if (finish_sum(sum_bytes(bytes, pseudo)) != 0) return SegmentVerdict::kBadChecksum;
  }
  segment.from = {packet.source, load_be16(tcp)};
  segment.to = {packet.destination, load_be16(tcp + 2)};
  segment.seq = load_be32(tcp + 4);
  segment.ack = load_be32(tcp + 8);
  segment.flags = load_u8(tcp + 13) & 0x3f;
  segment.window = load_be16(tcp + 14);
  segment.payload = bytes.subspan(header);
  parse_options(bytes.subspan(kTcpHeaderBytes, header - kTcpHeaderBytes), segment);
  return SegmentVerdict::kGood;
}

}  // namespace synfluid::guest::net
