// The commonest frame, and what a look-up needs of it: Ethernet without tags, IPv4 without options, TCP,
// whole.
//
// Two words of a frame tell it; its key is made in registers, without a branch on which end is the lower,
// which is a coin toss to the CPU. Lengths are not looked at, and so the fields behind the key mean nothing
// yet: who does more than look up asks parse_packet(), whose short way is made of the same parts. Who treats
// what is not TCP as he would an unknown flow asks for the layout only.
//
// Values: no threads, no ownership. Reads only inside the span it is given.
#pragma once

#include <algorithm>
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

/// Four bytes that lie there, as raw() reads them.
constexpr uint32_t as_word(std::array<uint8_t, 4> bytes) {
  return std::bit_cast<uint32_t>(bytes);
}

/// True for Ethernet without tags and IPv4 without options, whatever IPv4 carries: if that is TCP, its header
/// begins at kL4.
inline bool has_layout(std::span<const std::byte> frame) noexcept {
  constexpr uint32_t kTypeAndLength = as_word({0x08, 0x00, 0x45});
  constexpr uint32_t kTypeAndLengthBits = as_word({0xff, 0xff, 0xff});
  return frame.size() >= kHeaders && (raw<uint32_t>(frame, 12) & kTypeAndLengthBits) == kTypeAndLength;
}

inline bool is(std::span<const std::byte> frame) noexcept {
  constexpr uint32_t kProtocol = as_word({0, 0, 0, 6});
  constexpr uint32_t kProtocolAndFragmentBits = as_word({0x3f, 0xff, 0, 0xff});
  return has_layout(frame) && (raw<uint32_t>(frame, 20) & kProtocolAndFragmentBits) == kProtocol;
}

/// Of a FlowKey what is not constant: the addresses, with the low one's bytes in the lower half, and the
/// ports with the (absent) tags.
struct Flow {
  uint64_t addresses;
  uint64_t ports;
  FromEnd from;

  /// The second halves of the key's addresses.
  uint64_t low() const noexcept { return addresses << 32 | kMapped; }
  uint64_t high() const noexcept { return addresses >> 32 << 32 | kMapped; }
  static constexpr uint64_t kMapped = 0xffff0000;  ///< ::ffff:a.b.c.d, its bytes 8 to 11
};

static_assert(std::endian::native == std::endian::little, "the words below are put together for it");

/// Of a frame that is(): the same key as make_flow_key()'s.
inline Flow flow(std::span<const std::byte> frame) noexcept {
  // As numbers, the source above the destination.
  const uint64_t by_source = __builtin_bswap64(raw<uint64_t>(frame, kL3 + 12));
  const uint64_t by_destination = std::rotl(by_source, 32);
  const uint32_t ports_by_source = __builtin_bswap32(raw<uint32_t>(frame, kL4));
  bool from_low = by_source < by_destination;
  if (by_source == by_destination) [[unlikely]]
    from_low = ports_by_source < std::rotl(ports_by_source, 16);
  // By a minimum and a choice: told that it is a coin toss, the compiler does not branch. Nor is the choice
  // made a number: on x86 that is a byte of a register, which waits for what the register held before.
  constexpr double kCoin = 0.5;
  const uint32_t ports_by_destination = std::rotl(ports_by_source, 16);
  return {.addresses = __builtin_bswap64(std::min(by_source, by_destination)),
          .ports = __builtin_expect_with_probability(from_low, true, kCoin) ? ports_by_destination
                                                                            : ports_by_source,
          .from = static_cast<FromEnd>(!from_low)};
}
static_assert(static_cast<int>(FromEnd::kLow) == 0 && static_cast<int>(FromEnd::kHigh) == 1);

}  // namespace synfluid::plain_ipv4
