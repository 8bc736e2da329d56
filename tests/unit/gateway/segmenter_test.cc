// Frames that were left whole, cut: the pieces carry the same stream, each a frame of its own.
#include "gateway/segmenter.h"

#include <array>
#include <cstring>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "backend/checksum.h"
#include "base/packet.h"
#include "gateway/tcp_frame.h"

namespace synfluid::gateway {
namespace {

using Frame = std::vector<std::byte>;
using Protocol = Segmenter::Protocol;

constexpr uint8_t kCwr = 0x80;
constexpr uint32_t kSeq = 0xffff'fc00;  // it wraps in the third segment

std::string payload(size_t bytes) {
  std::string out(bytes, '\0');
  for (size_t i = 0; i < bytes; ++i) out[i] = static_cast<char>(i * 131 >> 3);
  return out;
}

enum class Family : uint8_t { kIpv4, kIpv6 };

Frame tcp_frame(Family family, const std::string& text, uint8_t flags, bool tagged = false) {
  const std::string type = family == Family::kIpv4 ? std::string("\x08\x00", 2) : "\x86\xdd";
  const std::string tag = tagged ? std::string("\x81\x00\x00\x64", 4) : "";
  const std::string link =
      "\x02"
      "server"
      "\x02"
      "clie" +
      tag + type;
  TcpFrame spec{.link_header = std::as_bytes(std::span(link)),
                .ip_version = static_cast<uint8_t>(family == Family::kIpv4 ? 4 : 6),
                .source = {.address = {}, .port = 40'000},
                .destination = {.address = {}, .port = 80},
                .seq = kSeq,
                .ack = 7,
                .flags = flags,
                .window = 1000,
                .options = {},
                .payload = std::as_bytes(std::span(text))};
  spec.source.address = spec.destination.address = Address::from_v4(std::array<uint8_t, 4>{10, 0, 0, 1});
  if (family == Family::kIpv6) spec.source.address.bytes[0] = spec.destination.address.bytes[0] = 0x20;
  Frame frame(kMaxTcpHeaders + text.size());
  frame.resize(write_tcp_frame(spec, frame));
  return frame;
}

Frame udp_frame(const std::string& text) {
  Frame frame(14 + 20 + 8 + text.size());
  const auto put16 = [&](size_t at, size_t value) {
    frame[at] = static_cast<std::byte>(value >> 8);
    frame[at + 1] = static_cast<std::byte>(value);
  };
  put16(12, 0x0800);
  put16(14, 0x4500);
  put16(16, 28 + text.size());
  put16(22, 0x4011);
  put16(26, 0x0a00);
  put16(30, 0x0a01);
  put16(38, 8 + text.size());
  std::memcpy(frame.data() + 42, text.data(), text.size());
  return frame;
}

std::vector<Frame> cut(const Frame& frame, Protocol protocol, size_t segment_bytes) {
  Segmenter segmenter;
  std::vector<Frame> out;
  if (!segmenter.start(frame, protocol, segment_bytes)) return out;
  while (!segmenter.done()) {
    out.emplace_back(segmenter.next_bytes());
    segmenter.write_next(out.back());
  }
  return out;
}

std::string text_of(const Frame& frame, size_t at, size_t bytes) {
  return {reinterpret_cast<const char*>(frame.data()) + at, bytes};
}

void expect_right_checksums(const Frame& frame) {
  Frame computed = frame;
  ASSERT_TRUE(backend::fill_checksum(computed));
  EXPECT_EQ(computed, frame);
  const size_t ip = backend::find_transport(frame).addresses - 12;
  if (backend::find_transport(frame).address_bytes == 8) {
    EXPECT_EQ(backend::fold_sum(backend::add_to_sum(std::span(frame).subspan(ip, 20), 0)), 0);
  }
}

class Segments : public ::testing::TestWithParam<std::tuple<Family, bool>> {};

TEST_P(Segments, CarryTheSameStream) {
  const auto [family, tagged] = GetParam();
  const std::string text = payload(10 * 536 + 17);
  const auto frames =
      cut(tcp_frame(family, text, tcp_flag::kAck | tcp_flag::kPsh | tcp_flag::kFin | kCwr, tagged),
          Protocol::kTcp, 536);
  ASSERT_EQ(frames.size(), 11u);
  std::string stream;
  uint32_t seq = kSeq;
  for (const Frame& frame : frames) {
    const ParsedPacket p = parse_packet(frame);
    ASSERT_EQ(p.kind, PacketKind::kTcp);
    EXPECT_EQ(p.flow.key.vlan.outer, tagged ? 100 : 0);
    EXPECT_EQ(p.payload_offset + p.payload_length, frame.size());
    EXPECT_EQ(p.tcp_seq, seq);
    EXPECT_EQ(p.tcp_ack, 7u);
    const bool is_first = &frame == &frames.front(), is_last = &frame == &frames.back();
    EXPECT_EQ(p.has_flag(tcp_flag::kFin), is_last);
    EXPECT_EQ(p.has_flag(tcp_flag::kPsh), is_last);
    EXPECT_EQ(p.has_flag(kCwr), is_first);
    EXPECT_TRUE(p.has_flag(tcp_flag::kAck));
    expect_right_checksums(frame);
    seq += p.payload_length;
    stream += text_of(frame, p.payload_offset, p.payload_length);
  }
  EXPECT_EQ(stream, text);
}
INSTANTIATE_TEST_SUITE_P(Of, Segments,
                         ::testing::Combine(::testing::Values(Family::kIpv4, Family::kIpv6),
                                            ::testing::Bool()));

TEST(Segmenter, NumbersTheIpv4PacketsOnward) {
  Frame frame = tcp_frame(Family::kIpv4, payload(3000), tcp_flag::kAck);
  frame[18] = frame[19] = std::byte{0xff};
  std::vector<unsigned> numbers;
  for (const Frame& f : cut(frame, Protocol::kTcp, 1000))
    numbers.push_back(static_cast<unsigned>(f[18]) << 8 | static_cast<unsigned>(f[19]));
  EXPECT_EQ(numbers, (std::vector<unsigned>{0xffff, 0, 1}));
}

TEST(Segmenter, CutsDatagrams) {
  const std::string text = payload(2500);
  const auto frames = cut(udp_frame(text), Protocol::kUdp, 1000);
  ASSERT_EQ(frames.size(), 3u);
  std::string all;
  for (const Frame& frame : frames) {
    const size_t length = frame.size() - 34;
    EXPECT_EQ(static_cast<size_t>(frame[38]) << 8 | static_cast<size_t>(frame[39]), length);
    expect_right_checksums(frame);
    all += text_of(frame, 42, length - 8);
  }
  EXPECT_EQ(all, text);
}

TEST(Segmenter, LeavesEthernetPaddingOut) {
  Frame frame = tcp_frame(Family::kIpv4, "abc", tcp_flag::kAck);
  frame.resize(64, std::byte{0x55});
  const auto frames = cut(frame, Protocol::kTcp, 2);
  ASSERT_EQ(frames.size(), 2u);
  EXPECT_EQ(frames[1].size(), 14u + 20 + 20 + 1);
}

TEST(Segmenter, RefusesWhatItIsNotToldTheTruthAbout) {
  const Frame tcp = tcp_frame(Family::kIpv4, payload(3000), tcp_flag::kAck);
  Segmenter s;
  EXPECT_FALSE(s.start(tcp, Protocol::kTcp, 0)) << "segments of nothing";
  EXPECT_FALSE(s.start(tcp, Protocol::kUdp, 1000));
  EXPECT_FALSE(s.start(udp_frame(payload(3000)), Protocol::kTcp, 1000)) << "a tunnel, perhaps";
  EXPECT_FALSE(s.start(tcp_frame(Family::kIpv4, "", tcp_flag::kAck), Protocol::kTcp, 1000))
      << "nothing in it";
  Frame fragment = tcp;
  fragment[20] = std::byte{0x20};
  EXPECT_FALSE(s.start(fragment, Protocol::kTcp, 1000));
  Frame bad_offset = tcp;
  bad_offset[46] = std::byte{0x40};
  EXPECT_FALSE(s.start(bad_offset, Protocol::kTcp, 1000)) << "a TCP header of 16 bytes";
  for (size_t bytes = 0; bytes < tcp.size(); bytes += bytes < 80 ? 1 : 97)
    EXPECT_FALSE(s.start(std::span(tcp).first(bytes), Protocol::kTcp, 1000)) << bytes << " bytes are there";
  EXPECT_TRUE(s.done());
}

TEST(Segmenter, ForgetsTheFrameBefore) {
  const Frame frame = tcp_frame(Family::kIpv4, payload(3000), tcp_flag::kAck);
  Segmenter s;
  ASSERT_TRUE(s.start(frame, Protocol::kTcp, 1000));
  EXPECT_FALSE(s.start({}, Protocol::kTcp, 1000));
  EXPECT_TRUE(s.done());
}

}  // namespace
}  // namespace synfluid::gateway
