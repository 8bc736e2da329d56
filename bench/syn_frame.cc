#include "bench/syn_frame.h"

#include <algorithm>
#include <initializer_list>

#include "backend/checksum.h"

namespace synfluid::bench {

namespace {

constexpr size_t kIpAt = 14;
constexpr size_t kTcpAt = kIpAt + 20;
constexpr size_t kIpChecksumAt = kIpAt + 10;
constexpr size_t kAddressesAt = kIpAt + 12;
constexpr size_t kAddressBytes = 4;
constexpr size_t kPortBytes = 2;
constexpr size_t kTcpFlagsAt = kTcpAt + 13;
constexpr std::byte kSynAck{0x12};

/// Two fields of so many bytes, one after the other, the other way round in an answer.
bool are_swapped(std::span<const std::byte> asked, std::span<const std::byte> answer, size_t at,
                 size_t bytes) {
  const auto first = [&](std::span<const std::byte> frame) { return frame.subspan(at, bytes); };
  const auto second = [&](std::span<const std::byte> frame) { return frame.subspan(at + bytes, bytes); };
  return std::ranges::equal(first(asked), second(answer)) && std::ranges::equal(second(asked), first(answer));
}

void put(std::span<std::byte> frame, size_t at, std::initializer_list<unsigned> bytes) {
  for (const unsigned byte : bytes) frame[at++] = static_cast<std::byte>(byte);
}

constexpr unsigned kSyn = 0x02;
constexpr unsigned kRst = 0x04;
constexpr unsigned kFirstSequence = 0x78;

std::array<std::byte, kSynBytes> make_segment(uint32_t client, unsigned sequence, unsigned flags) {
  std::array<std::byte, kSynBytes> frame{};
  put(frame, 0, {0x02, 0, 0, 0, 0, 0x01, 0x02, 0, 0, 0, 0, 0x02, 0x08, 0x00});
  put(frame, kIpAt, {0x45, 0, 0, 40, 0, 0, 0x40, 0, 64, 6, 0, 0});
  put(frame, kIpAt + 12, {10, 0, client >> 8 & 0xff, client & 0xff, 192, 0, 2, 1});
  put(frame, kTcpAt, {0x80 | (client >> 24 & 0x3f), client >> 16 & 0xff, 0, 80, 0x12, 0x34, 0x56, sequence});
  put(frame, kTcpAt + 12, {0x50, flags, 0xff, 0xff});
  const uint16_t sum =
      backend::fold_sum(backend::add_to_sum(std::span(frame).subspan(kIpAt, kTcpAt - kIpAt), 0));
  put(frame, kIpChecksumAt, {sum & 0xffu, static_cast<unsigned>(sum >> 8)});
  backend::fill_checksum(frame);
  return frame;
}

}  // namespace

std::array<std::byte, kSynBytes> make_syn(uint32_t client) {
  return make_segment(client, kFirstSequence, kSyn);
}

std::array<std::byte, kSynBytes> make_reset(uint32_t client) {
  return make_segment(client, kFirstSequence + 1, kRst);
}

bool is_synack(std::span<const std::byte> frame) {
  return frame.size() >= kSynBytes && frame[12] == std::byte{0x08} && frame[13] == std::byte{0x00} &&
         frame[kIpAt + 9] == std::byte{6} && (frame[kTcpFlagsAt] & kSynAck) == kSynAck;
}

bool is_synack_to(std::span<const std::byte, kSynBytes> syn, std::span<const std::byte> frame) {
  return is_synack(frame) && are_swapped(syn, frame, kAddressesAt, kAddressBytes) &&
         are_swapped(syn, frame, kTcpAt, kPortBytes);
}

}  // namespace synfluid::bench
