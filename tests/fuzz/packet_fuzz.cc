// parse_packet() on any bytes: its offsets stay inside the frame, both directions agree on the flow's key,
// and the short way gives the answer of the general one.
#include <cstdlib>
#include <span>

#include "base/packet.h"

namespace {

void require(bool holds) {
  if (!holds) std::abort();
}

void check_tcp(const synfluid::ParsedPacket& packet, size_t frame_bytes) {
  require(packet.l3_offset < packet.l4_offset);
  require(packet.l4_offset + 20u <= packet.payload_offset);
  require(size_t{packet.payload_offset} + packet.payload_length <= frame_bytes);
  const auto back =
      synfluid::make_flow_key(packet.flow.destination(), packet.flow.source(), packet.flow.key.vlan);
  require(back.key == packet.flow.key);
  require(back.from != packet.flow.from || packet.flow.source() == packet.flow.destination());
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const auto frame = std::as_bytes(std::span(data, size));
  const synfluid::ParsedPacket packet = synfluid::parse_packet(frame);
  require(!synfluid::to_string(packet.kind).empty());
  const synfluid::ParsedPacket by_steps = synfluid::parse_packet_by_steps(frame);
  require(packet.kind == by_steps.kind);
  if (packet.kind != synfluid::PacketKind::kTcp) return 0;
  check_tcp(packet, size);
  require(packet.flow.key == by_steps.flow.key && packet.payload_offset == by_steps.payload_offset);
  return 0;
}
