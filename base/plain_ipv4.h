// The commonest frame, and what a look-up needs of it: Ethernet without tags, IPv4 without options, TCP,
// whole.
//
// Two words of a frame tell it; its key is made in registers, without a branch on which end is the lower,
// which is a coin toss to the CPU. Lengths are not looked at, and so the fields behind the key mean nothing
// yet: who does more than look up asks parse_packet(), whose short way is made of the same parts.
//
// Values: no threads, no ownership. Reads only inside the span it is given.
#pragma once

#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>

#include "base/address.h"

namespace synfluid::plain_ipv4 {

inline constexpr size_t kL3 = 14;
inline constexpr size_t kL4 = kL3 + 20;
inline constexpr size_t kTcpFlags = kL4 + 13;
inline constexpr size_t kHeaders = kL4 + 20;  ///< the shortest such frame

/// Sizeof(Word) bytes as they lie there.
template <class Word>
inline Word raw(std::span<const std::byte> frame, size_t at) noexcept {
  Word word;
  std::memcpy(&word, frame.data() + at, sizeof word);
  return word;
}

inline bool is(std::span<const std::byte> frame) noexcept {
  constexpr auto word_of = [](std::array<uint8_t, 8> bytes) { return std::bit_cast<uint64_t>(bytes); };
  constexpr uint64_t kTypeAndLength = word_of({0x08, 0x00, 0x45});
  constexpr uint64_t kTypeAndLengthBits = word_of({0xff, 0xff, 0xff});
  constexpr uint64_t kProtocol = word_of({0, 0, 0, 6});
  constexpr uint64_t kProtocolAndFragmentBits = word_of({0x3f, 0xff, 0, 0xff});
  if (frame.size() < kHeaders) return false;
  const uint64_t type_and_length = raw<uint64_t>(frame, 12) & kTypeAndLengthBits;
  const uint64_t protocol = raw<uint64_t>(frame, 20) & kProtocolAndFragmentBits;
  return ((type_and_length ^ kTypeAndLength) | (protocol ^ kProtocol)) == 0;
}

/// A FlowKey's words that are not zero: the second half of either address, and the ports with the (absent)
/// tags.
struct Flow {
  uint64_t low;
  uint64_t high;
  uint64_t ports;
  FromEnd from;
};

static_assert(std::endian::native == std::endian::little, "the words below are put together for it");

/// Of a frame that is(): the same key as make_flow_key()'s.
inline Flow flow(std::span<const std::byte> frame) noexcept {
  constexpr uint64_t kMapped = 0xffff0000;  // ::ffff:a.b.c.d, from its bytes 8 on
  const uint64_t addresses = raw<uint64_t>(frame, kL3 + 12);
  const uint32_t ports = raw<uint32_t>(frame, kL4);
  // As numbers, the source above the destination.
  const uint64_t by_source = __builtin_bswap64(addresses);
  const uint64_t by_destination = std::rotl(by_source, 32);
  const uint32_t ports_by_source = __builtin_bswap32(ports);
  const uint32_t ports_by_destination = std::rotl(ports_by_source, 16);
  bool from_low = by_source < by_destination;
  if (by_source == by_destination) [[unlikely]]
    from_low = ports_by_source < ports_by_destination;
  // By masks: a compiler that is given the choice branches.
  const uint64_t if_high = uint64_t{from_low} - 1;
  const uint64_t low_first = addresses ^ ((addresses ^ std::rotl(addresses, 32)) & if_high);
  return {.low = low_first << 32 | kMapped,
          .high = low_first >> 32 << 32 | kMapped,
          .ports = ports_by_destination ^
                   ((ports_by_destination ^ ports_by_source) & static_cast<uint32_t>(if_high)),
          .from = static_cast<FromEnd>(!from_low)};
}
static_assert(static_cast<int>(FromEnd::kLow) == 0 && static_cast<int>(FromEnd::kHigh) == 1);

}  // namespace synfluid::plain_ipv4
