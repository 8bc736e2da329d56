#include "bench/syn_frame.h"

#include <initializer_list>

#include "backend/checksum.h"

namespace synfluid::bench {

namespace {

constexpr size_t kIpAt = 14;
constexpr size_t kTcpAt = kIpAt + 20;
constexpr size_t kIpChecksumAt = kIpAt + 10;
constexpr size_t kTcpFlagsAt = kTcpAt + 13;
constexpr std::byte kSynAck{0x12};
constexpr unsigned kSyn = 0x02;
constexpr unsigned kRst = 0x04;
constexpr uint32_t kIsn = 0x12345678;

void put(std::span<std::byte> frame, size_t at, std::initializer_list<unsigned> bytes) {
  for (const unsigned byte : bytes) frame[at++] = static_cast<std::byte>(byte);
}

struct Segment {
  uint32_t client;
  uint32_t seq;
  unsigned flags;
};

std::array<std::byte, kSynBytes> make_segment(const Segment& s) {
  const uint32_t client = s.client;
  std::array<std::byte, kSynBytes> frame{};
  put(frame, 0, {0x02, 0, 0, 0, 0, 0x01, 0x02, 0, 0, 0, 0, 0x02, 0x08, 0x00});
  put(frame, kIpAt, {0x45, 0, 0, 40, 0, 0, 0x40, 0, 64, 6, 0, 0});
  put(frame, kIpAt + 12, {10, 0, client >> 8 & 0xff, client & 0xff, 192, 0, 2, 1});
  put(frame, kTcpAt, {0x80 | (client >> 24 & 0x3f), client >> 16 & 0xff, 0, 80});
  put(frame, kTcpAt + 4, {s.seq >> 24, s.seq >> 16 & 0xff, s.seq >> 8 & 0xff, s.seq & 0xff});
  put(frame, kTcpAt + 12, {0x50, s.flags, 0xff, 0xff});
  const uint16_t sum =
      backend::fold_sum(backend::add_to_sum(std::span(frame).subspan(kIpAt, kTcpAt - kIpAt), 0));
  put(frame, kIpChecksumAt, {sum & 0xffu, static_cast<unsigned>(sum >> 8)});
  backend::fill_checksum(frame);
  return frame;
}

}  // namespace

std::array<std::byte, kSynBytes> make_syn(uint32_t client) {
  return make_segment({.client = client, .seq = kIsn, .flags = kSyn});
}

std::array<std::byte, kSynBytes> make_reset(uint32_t client) {
  return make_segment({.client = client, .seq = kIsn + 1, .flags = kRst});
}

bool is_synack(std::span<const std::byte> frame) {
  return frame.size() >= kSynBytes && frame[12] == std::byte{0x08} && frame[13] == std::byte{0x00} &&
         frame[kIpAt + 9] == std::byte{6} && (frame[kTcpFlagsAt] & kSynAck) == kSynAck;
}

}  // namespace synfluid::bench
