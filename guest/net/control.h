// Answers to what is not TCP: ARP requests, IPv6 neighbour solicitations and echo requests, for any address,
// since a guest that terminates flows has none of its own. Sources: RFC 826, RFC 4861, RFC 792, RFC 4443.
#pragma once

#include <cstdint>
#include <span>

#include "guest/net/frame_sink.h"
#include "guest/net/packet.h"

namespace synfluid::guest::net {

enum class ControlVerdict : uint8_t {
  kAnswered,
  kNoBuffer,    ///< an answer was due, but there was no page for it
  kUnanswered,  ///< nothing that wants an answer, or malformed
};

/// `mac` is what ARP and neighbour discovery are told. The frame must be whole: in one piece.
ControlVerdict answer_control(std::span<const std::byte> frame, const Packet& packet,
                              std::span<const uint8_t, 6> mac, FrameSink& sink);

}  // namespace synfluid::guest::net
