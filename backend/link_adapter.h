// The link layer of a foreign guest: lets an image with a network stack of its own serve flows whose
// link-layer addresses it knows nothing of.
//
// A guest of ours takes frames as they come from the wire and answers with the addresses swapped. Linux or
// MiniOS accepts only frames to its own MAC, knows no VLAN it was not configured for, and asks for a
// neighbour's address before it answers. So, for a terminating foreign guest:
//
//     to the guest    the flow's link header is taken off and remembered; a plain Ethernet header from
//     kGatewayMac to
//                     the guest's MAC is put on
//     from the guest  ARP requests and neighbour solicitations are answered here, for every address, with
//                     kGatewayMac; TCP frames get the flow's remembered header back, its addresses swapped
//
// Threads: pure functions. Ownership: none; frames are the caller's. Errors: an empty result for a frame that
// does not fit or is none of the above. Sources: RFC 826 (ARP), RFC 4861 (neighbour discovery), IEEE 802.1Q.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

namespace synfluid::backend {

using MacAddress = std::array<uint8_t, 6>;

/// What a foreign guest sees as the sender of everything. Locally administered.
inline constexpr MacAddress kGatewayMac = {0x02, 0x53, 0x46, 0x00, 0x00, 0x01};

/// The link header of a flow's frames as its client sends them: Ethernet and up to two VLAN tags.
class LinkHeader {
 public:
  static constexpr size_t kMaxBytes = 22;

  /// Of a frame that parse_packet() understood; `l3_offset` is what it said.
  static LinkHeader of(std::span<const std::byte> frame, uint16_t l3_offset) noexcept;

  /// The header of the answers: destination and source swapped, the same tags.
  LinkHeader reversed() const noexcept;
  std::span<const std::byte> bytes() const noexcept { return std::span(bytes_).first(length_); }
  bool empty() const noexcept { return length_ == 0; }

 private:
  std::array<std::byte, kMaxBytes> bytes_{};
  uint8_t length_ = 0;
};

/// Bytes in front of the IP header, VLAN tags included; 0 if the frame is no IP packet behind two tags at the
/// most.
uint16_t link_header_bytes(std::span<const std::byte> frame) noexcept;

/// Writes the frame as the guest is to see it. Returns its length; 0 if it does not fit into `out`.
size_t frame_for_guest(std::span<const std::byte> frame, uint16_t l3_offset, const MacAddress& guest,
                       std::span<std::byte> out) noexcept;

/// Writes a guest's frame as it is to go on the wire, behind `header`. Returns its length; 0 if it does not
/// fit.
size_t frame_for_wire(std::span<const std::byte> frame, uint16_t l3_offset, const LinkHeader& header,
                      std::span<std::byte> out) noexcept;

/// The longest answer that answer_neighbour_query() writes.
inline constexpr size_t kNeighbourAnswerBytes = 86;

/// If `frame` asks who has an address, writes the answer and returns its length, else 0. A guest that only
/// checks that its own address is free (ARP probe and announcement, duplicate address detection) gets no
/// answer: it is.
size_t answer_neighbour_query(std::span<const std::byte> frame, std::span<std::byte> out) noexcept;

}  // namespace synfluid::backend
