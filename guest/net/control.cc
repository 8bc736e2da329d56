#include "guest/net/control.h"

#include "guest/net/checksum.h"

namespace synfluid::guest::net {
namespace {

constexpr uint32_t kArpBytes = 28;
constexpr uint32_t kEchoHeaderBytes = 8;
constexpr uint32_t kNeighbourBytes = 24;  // solicitation or advertisement, without options
constexpr uint32_t kMacOptionBytes = 8;
constexpr uint8_t kEchoRequest4 = 8, kEchoReply4 = 0;
constexpr uint8_t kEchoRequest6 = 128, kEchoReply6 = 129;
constexpr uint8_t kNeighbourSolicitation = 135, kNeighbourAdvertisement = 136;
constexpr uint8_t kNeighbourHopLimit = 255;

/// Back to the sender, from `mac`.
LinkHeader answer_link(const LinkHeader& link, std::span<const uint8_t, 6> mac) {
  LinkHeader out = link;
  copy_bytes(&out.bytes[0], &link.bytes[6], 6);
  copy_bytes(&out.bytes[6], mac.data(), 6);
  return out;
}

bool is_group(const LinkHeader& link) {
  return (link.bytes[0] & 1) != 0;
}

ControlVerdict answer_arp(std::span<const std::byte> frame, const Packet& packet,
                          std::span<const uint8_t, 6> mac, FrameSink& sink) {
  static constexpr uint8_t kRequest[8] = {0, 1, 8, 0, 6, 4, 0, 1};  // Ethernet, IPv4, sizes, request
  if (frame.size() < packet.l3_offset + kArpBytes) return ControlVerdict::kUnanswered;
  const std::byte* in = &frame[packet.l3_offset];
  if (!same_bytes(in, kRequest, sizeof(kRequest))) return ControlVerdict::kUnanswered;
  // An announcement asks for its own address: an answer would be a conflict.
  if (same_bytes(in + 14, in + 24, 4)) return ControlVerdict::kUnanswered;
  std::byte* page = sink.take();
  if (page == nullptr) return ControlVerdict::kNoBuffer;
  const LinkHeader link = answer_link(packet.link, mac);
  copy_bytes(page, &link.bytes[0], link.length);
  std::byte* out = page + link.length;
  copy_bytes(out, kRequest, 6);
  store_be16(out + 6, 2);
  copy_bytes(out + 8, mac.data(), 6);
  copy_bytes(out + 14, in + 24, 4);
  copy_bytes(out + 18, in + 8, 10);
  sink.send(page, link.length + kArpBytes);
  return ControlVerdict::kAnswered;
}

ControlVerdict answer_neighbour(std::span<const std::byte> frame, const Packet& packet,
                                std::span<const uint8_t, 6> mac, FrameSink& sink) {
  const std::byte* in = &frame[packet.l4_offset];
  if (packet.l4_length < kNeighbourBytes || load_u8(&frame[packet.l3_offset + 7]) != kNeighbourHopLimit ||
      load_u8(in + 1) != 0)
    return ControlVerdict::kUnanswered;
  // From the unspecified address: somebody checks whether the target is free. It is.
  if (packet.source == IpAddress{}) return ControlVerdict::kUnanswered;
  const IpAddress target = IpAddress::from_v6(in + 8);
  if (target.is_multicast()) return ControlVerdict::kUnanswered;
  std::byte* page = sink.take();
  if (page == nullptr) return ControlVerdict::kNoBuffer;
  constexpr uint32_t kBytes = kNeighbourBytes + kMacOptionBytes;
  const LinkHeader link = answer_link(packet.link, mac);
  std::byte* out = write_ip_header(page, link, target, packet.source, kProtocolIcmp6, kBytes);
  store_u8(page + link.length + 7, kNeighbourHopLimit);
  zero_bytes(out, kBytes);
  store_u8(out, kNeighbourAdvertisement);
  store_u8(out + 4, 0x60);  // solicited, override
  copy_bytes(out + 8, &target.bytes[0], 16);
  store_u8(out + 24, 2);  // target link-layer address
  store_u8(out + 25, 1);  // in units of 8 bytes
  copy_bytes(out + 26, mac.data(), 6);
  const uint64_t pseudo = sum_pseudo_header(target, packet.source, kProtocolIcmp6, kBytes);
  store_checksum(out + 2, finish_sum(sum_bytes({out, kBytes}, pseudo)));
  sink.send(page, static_cast<uint32_t>(out - page) + kBytes);
  return ControlVerdict::kAnswered;
}

ControlVerdict answer_echo(std::span<const std::byte> frame, const Packet& packet,
                           std::span<const uint8_t, 6> mac, FrameSink& sink) {
  if (packet.l4_length < kEchoHeaderBytes || packet.destination.is_multicast())
    return ControlVerdict::kUnanswered;
  std::byte* page = sink.take();
  if (page == nullptr) return ControlVerdict::kNoBuffer;
  const bool v4 = packet.protocol == kProtocolIcmp;
  const LinkHeader link = is_group(packet.link) ? answer_link(packet.link, mac) : packet.link.swapped();
  const uint32_t bytes = packet.l4_length;
  std::byte* out = write_ip_header(page, link, packet.destination, packet.source, packet.protocol, bytes);
  copy_bytes(out, &frame[packet.l4_offset], bytes);
  store_u8(out, v4 ? kEchoReply4 : kEchoReply6);
  store_be16(out + 2, 0);
  const uint64_t pseudo =
      v4 ? 0 : sum_pseudo_header(packet.destination, packet.source, kProtocolIcmp6, bytes);
  store_checksum(out + 2, finish_sum(sum_bytes({out, bytes}, pseudo)));
  sink.send(page, static_cast<uint32_t>(out - page) + bytes);
  return ControlVerdict::kAnswered;
}

}  // namespace

ControlVerdict answer_control(std::span<const std::byte> frame, const Packet& packet,
                              std::span<const uint8_t, 6> mac, FrameSink& sink) {
  if (packet.kind == PacketKind::kArp) return answer_arp(frame, packet, mac, sink);
  if (packet.kind != PacketKind::kIp || packet.l4_length < kEchoHeaderBytes)
    return ControlVerdict::kUnanswered;
  const bool v4 = packet.source.is_v4();
  if (packet.protocol != (v4 ? kProtocolIcmp : kProtocolIcmp6)) return ControlVerdict::kUnanswered;
  const auto message = frame.subspan(packet.l4_offset, packet.l4_length);
  const uint64_t pseudo =
      v4 ? 0 : sum_pseudo_header(packet.source, packet.destination, kProtocolIcmp6, packet.l4_length);
  if (finish_sum(sum_bytes(message, pseudo)) != 0) return ControlVerdict::kUnanswered;
  const uint8_t type = load_u8(message.data());
  if (type == (v4 ? kEchoRequest4 : kEchoRequest6)) return answer_echo(frame, packet, mac, sink);
  if (!v4 && type == kNeighbourSolicitation) return answer_neighbour(frame, packet, mac, sink);
  return ControlVerdict::kUnanswered;
}

}  // namespace synfluid::guest::net
