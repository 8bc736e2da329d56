// The small parts: counters, histograms, held frames' lists, port names, spreading, checksums, resets.

#include <random>
#include <vector>

#include <fmt/format.h>
#include <gtest/gtest.h>

#include "backend/checksum.h"
#include "gateway/partial_checksum.h"
#include "gateway/ports.h"
#include "gateway/rss_key.h"
#include "gateway/spread.h"
#include "gateway/stream_tracker.h"
#include "gateway/tcp_frame.h"
#include "gateway/vif_slots.h"
#include "gateway/worker_counters.h"

namespace synfluid::gateway::testing {
namespace {

using namespace tcp_flag;

constexpr std::array<uint8_t, 4> kClient = {10, 20, 0, 1};
constexpr std::array<uint8_t, 4> kServer = {198, 51, 100, 80};

std::vector<std::byte> make_frame(TcpFrame spec, bool v6 = false) {
  std::vector<std::byte> link(14, std::byte{2});
  link[12] = v6 ? std::byte{0x86} : std::byte{0x08};
  link[13] = v6 ? std::byte{0xdd} : std::byte{0x00};
  spec.link_header = link;
  spec.ip_version = v6 ? 6 : 4;
  if (spec.source.port == 0) spec.source = {Address::from_v4(kClient), 40000};
  if (spec.destination.port == 0) spec.destination = {Address::from_v4(kServer), 80};
  std::vector<std::byte> frame(kMaxTcpHeaders + kMaxTcpOptions + spec.payload.size());
  frame.resize(write_tcp_frame(spec, frame));
  return frame;
}

/// The sum over a correct IPv4 header, or over pseudo header and segment, is zero.
bool checksums_are_right(std::vector<std::byte> frame) {
  const std::vector<std::byte> before = frame;
  return backend::fold_sum(backend::add_to_sum(std::span(frame).subspan(14, 20), 0)) == 0 &&
         backend::fill_checksum(frame) && frame == before;
}

TEST(TcpFrames, AreWholeAndTheirChecksumsRight) {
  const std::string text = "odd length";
  TcpFrame spec;
  spec.seq = 0xfffffff0;
  spec.ack = 77;
  spec.flags = kAck | kPsh;
  spec.payload = std::as_bytes(std::span(text));
  const std::vector<std::byte> frame = make_frame(spec);
  const ParsedPacket packet = parse_packet(frame);
  EXPECT_EQ(packet.kind, PacketKind::kTcp);
  EXPECT_EQ(packet.tcp_seq, 0xfffffff0u);
  EXPECT_EQ(packet.payload_length, text.size());
  EXPECT_TRUE(checksums_are_right(frame));
}

TEST(Resets, AnswerASynAsItsReceiverWould) {
  TcpFrame syn;
  syn.seq = 1000;
  syn.flags = kSyn;
  const std::vector<std::byte> frame = make_frame(syn);
  std::vector<std::byte> reset(kMaxTcpHeaders);
  reset.resize(write_reset(frame, parse_packet(frame), reset));
  const ParsedPacket packet = parse_packet(reset);
  EXPECT_EQ(packet.tcp_flags, kRst | kAck);
  EXPECT_EQ(packet.tcp_seq, 0u);
  EXPECT_EQ(packet.tcp_ack, 1001u);
  EXPECT_EQ(packet.flow.source().port, 80);
  EXPECT_TRUE(checksums_are_right(reset));
}

TEST(Resets, AnswerAnAcknowledgedSegmentWithItsNumber) {
  TcpFrame data;
  data.seq = 1;
  data.ack = 4242;
  data.flags = kAck;
  const std::vector<std::byte> frame = make_frame(data);
  std::vector<std::byte> reset(kMaxTcpHeaders);
  reset.resize(write_reset(frame, parse_packet(frame), reset));
  EXPECT_EQ(parse_packet(reset).tcp_flags, kRst);
  EXPECT_EQ(parse_packet(reset).tcp_seq, 4242u);
}

TEST(Resets, AreNotAnsweredByResets) {
  TcpFrame rst;
  rst.flags = kRst;
  const std::vector<std::byte> frame = make_frame(rst);
  std::vector<std::byte> into(kMaxTcpHeaders);
  EXPECT_EQ(write_reset(frame, parse_packet(frame), into), 0u);
}

TEST(Resets, AreNotWrittenWhereTheyDoNotFit) {
  TcpFrame syn;
  syn.flags = kSyn;
  const std::vector<std::byte> frame = make_frame(syn);
  const ParsedPacket packet = parse_packet(frame);
  constexpr size_t kFits = 14 + 20 + 20;
  for (size_t room = 0; room < kFits; ++room) {
    std::vector<std::byte> into(room);  // exactly as long, for the sanitizer to see a step beyond
    EXPECT_EQ(write_reset(frame, packet, into), 0u);
  }
  std::vector<std::byte> into(kFits);
  EXPECT_EQ(write_reset(frame, packet, into), kFits);
}

TEST(Resets, AreNotWrittenForAFrameThatIsShorterThanWhatWasParsed) {
  TcpFrame syn;
  syn.flags = kSyn;
  const std::vector<std::byte> frame = make_frame(syn);
  const ParsedPacket packet = parse_packet(frame);
  std::vector<std::byte> into(kMaxTcpHeaders);
  for (size_t length : {size_t{0}, size_t{13}, size_t{14}}) {
    const std::vector<std::byte> cut(frame.begin(), frame.begin() + static_cast<ptrdiff_t>(length));
    EXPECT_EQ(write_reset(cut, packet, into), 0u);
  }
}

TEST(Resets, OfIpv6PacketsAreIpv6EvenForMappedAddresses) {
  TcpFrame syn;
  syn.flags = kSyn;
  const std::vector<std::byte> frame = make_frame(syn, true);
  std::vector<std::byte> reset(kMaxTcpHeaders);
  reset.resize(write_reset(frame, parse_packet(frame), reset));
  EXPECT_EQ(parse_packet(reset).kind, PacketKind::kTcp);
  EXPECT_EQ(reset.size(), 14u + 40 + 20);
}

/// What the kernel leaves in the field: the folded sum of the pseudo header, not complemented.
void leave_to_hardware(std::vector<std::byte>& frame, bool v6) {
  const size_t addresses = v6 ? 22 : 26;
  const size_t tcp = v6 ? 54 : 34;
  uint32_t sum = 6 + static_cast<uint32_t>(frame.size() - tcp);
  for (size_t i = addresses; i < tcp; i += 2)
    sum += static_cast<uint32_t>(frame[i]) << 8 | static_cast<uint32_t>(frame[i + 1]);
  while (sum >> 16 != 0) sum = (sum & 0xffff) + (sum >> 16);
  frame[tcp + 16] = static_cast<std::byte>(sum >> 8);
  frame[tcp + 17] = static_cast<std::byte>(sum & 0xff);
}

TEST(PartialChecksums, AreCompleted) {
  for (const bool v6 : {false, true}) {
    TcpFrame syn;
    syn.flags = kSyn;
    const std::vector<std::byte> right = make_frame(syn, v6);
    std::vector<std::byte> frame = right;
    leave_to_hardware(frame, v6);
    ASSERT_NE(frame, right);
    EXPECT_TRUE(complete_partial_checksum(frame));
    EXPECT_EQ(frame, right);
  }
}

TEST(PartialChecksums, ThatAreWholeOrWrongStayAsTheyAre) {
  TcpFrame syn;
  syn.flags = kSyn;
  std::vector<std::byte> frame = make_frame(syn);
  const std::vector<std::byte> right = frame;
  EXPECT_FALSE(complete_partial_checksum(frame));
  EXPECT_EQ(frame, right);
  frame[50] ^= std::byte{0x55};
  EXPECT_FALSE(complete_partial_checksum(frame));
}

TEST(PartialChecksums, SurviveAnyBytes) {
  std::mt19937 random(20);
  for (int round = 0; round < 20'000; ++round) {
    std::vector<std::byte> frame(random() % 80);
    for (std::byte& b : frame) b = static_cast<std::byte>(random());
    if (frame.size() > 14) {
      frame[12] = random() % 2 == 0 ? std::byte{0x08} : std::byte{0x86};
      frame[13] = frame[12] == std::byte{0x08} ? std::byte{0} : std::byte{0xdd};
      frame[14] = static_cast<std::byte>(random() % 2 == 0 ? 0x45 : 0x60);
    }
    complete_partial_checksum(frame);
    complete_ipv4_checksum(frame);
  }
}

TEST(Ipv4Checksums, ThatAreZeroAreComputed) {
  TcpFrame syn;
  syn.flags = kSyn;
  const std::vector<std::byte> right = make_frame(syn);
  std::vector<std::byte> frame = right;
  frame[24] = frame[25] = std::byte{0};
  EXPECT_TRUE(complete_ipv4_checksum(frame));
  EXPECT_EQ(frame, right);
  EXPECT_FALSE(complete_ipv4_checksum(frame));
}

ParsedPacket packet_of(uint8_t flags, uint32_t seq, uint16_t port, bool back = false) {
  ParsedPacket p;
  p.kind = PacketKind::kTcp;
  p.tcp_flags = flags;
  p.tcp_seq = seq;
  const Endpoint client{Address::from_v4(kClient), port};
  const Endpoint server{Address::from_v4(kServer), 80};
  p.flow = back ? make_flow_key(server, client, {}) : make_flow_key(client, server, {});
  return p;
}

TEST(Streams, ARetransmittedSynIsNoNewConnection) {
  StreamTracker tracker;
  EXPECT_TRUE(tracker.see(packet_of(kSyn, 5, 1)).is_new);
  EXPECT_FALSE(tracker.see(packet_of(kSyn, 5, 1)).is_new);
  EXPECT_EQ(tracker.connections(), 1u);
}

TEST(Streams, ASynWithAnotherNumberIsANewConnection) {
  StreamTracker tracker;
  tracker.see(packet_of(kSyn, 5, 1));
  tracker.see(packet_of(kSyn | kAck, 9, 1, true));
  EXPECT_TRUE(tracker.see(packet_of(kSyn, 6, 1)).is_new);
  EXPECT_EQ(tracker.connections(), 2u);
  EXPECT_EQ(tracker.streams(), 2u);
}

TEST(Streams, AConnectionSeenFromItsMiddleDoesNotCount) {
  StreamTracker tracker;
  const auto seen = tracker.see(packet_of(kAck, 5, 1, true));
  EXPECT_TRUE(seen.is_new);
  EXPECT_TRUE(seen.from_initiator) << "who speaks first is taken for the initiator";
  EXPECT_EQ(tracker.connections(), 0u);
}

TEST(Streams, ASynThatContradictsItselfBeginsNoConnection) {
  StreamTracker tracker;
  uint16_t port = 1;
  for (const uint8_t other : {kFin, kRst, kAck}) tracker.see(packet_of(kSyn | other, 5, port++));
  EXPECT_EQ(tracker.connections(), 0u);
}

TEST(Histogram, PercentilesAreWithinAStep) {
  LatencyHistogram histogram;
  EXPECT_EQ(histogram.quantile_ns(0.5), 0);
  for (int64_t ns = 1; ns <= 1000; ++ns) histogram.add(ns * 1000);
  EXPECT_EQ(histogram.count(), 1000u);
  EXPECT_EQ(histogram.max_ns(), 1'000'000);
  EXPECT_GE(histogram.quantile_ns(0.5), 500'000);
  EXPECT_LE(histogram.quantile_ns(0.5), 625'000);
  EXPECT_EQ(histogram.quantile_ns(1), 1'000'000);
}

TEST(Slots, AFreedSlotIsTheLastToBeUsedAgain) {
  VifSlots slots(3);
  const uint32_t first = slots.reserve();
  slots.free(first);
  EXPECT_NE(slots.reserve(), first);
  EXPECT_NE(slots.reserve(), first);
  EXPECT_EQ(slots.reserve(), first);
  EXPECT_EQ(slots.reserve(), kNone);
}

TEST(Slots, BusyOnesAreListedOnce) {
  VifSlots slots(4);
  slots.set_busy(2);
  slots.set_busy(3);
  slots.set_busy(2);
  EXPECT_EQ(slots.busy().size(), 2u);
  slots.set_quiet(2);
  slots.set_quiet(2);
  ASSERT_EQ(slots.busy().size(), 1u);
  EXPECT_EQ(slots.busy()[0], 3u);
}

constexpr flowtable::Secret kSecret{0x243f6a8885a308d3, 0x13198a2e03707344};
constexpr flowtable::Secret kOtherSecret{0x243f6a8885a308d3, 0x13198a2e03707345};

TcpFrame random_flow(std::mt19937& random) {
  TcpFrame frame;
  frame.source = {Address::from_v4(kClient), static_cast<uint16_t>(1024 + random() % 60000)};
  frame.destination = {Address::from_v4(kServer), 80};
  return frame;
}

TcpFrame way_back(TcpFrame frame) {
  std::swap(frame.source, frame.destination);
  return frame;
}

TEST(Spreading, BothDirectionsOfAFlowMeetTheSameWorker) {
  std::mt19937 random(7);
  const Spreading spreading(4, kSecret);
  std::array<int, 4> load{};
  for (int i = 0; i < 1000; ++i) {
    const TcpFrame there = random_flow(random);
    const uint16_t worker = spreading.worker_of(make_frame(there));
    EXPECT_EQ(spreading.worker_of(make_frame(way_back(there))), worker);
    ++load[worker];
  }
  for (const int frames : load) EXPECT_GT(frames, 150) << "some worker is left out";
}

TEST(Spreading, IsTheSecrets) {
  std::mt19937 random(7);
  const Spreading one(4, kSecret);
  const Spreading same(4, kSecret);
  const Spreading other(4, kOtherSecret);
  int alike = 0;
  for (int i = 0; i < 1000; ++i) {
    const auto frame = make_frame(random_flow(random));
    EXPECT_EQ(one.worker_of(frame), same.worker_of(frame));
    alike += one.worker_of(frame) == other.worker_of(frame);
  }
  EXPECT_NEAR(alike, 250, 100) << "a secret of one bit's difference says something about the other";
}

/// What a device computes: the key's 32 bits from bit i on, for each bit i of the input that is set.
uint32_t toeplitz(const RssKey& key, std::span<const uint8_t> input) {
  uint32_t hash = 0;
  for (size_t bit = 0; bit < input.size() * 8; ++bit) {
    if ((input[bit / 8] >> (7 - bit % 8) & 1) == 0) continue;
    for (size_t i = 0; i < 32; ++i)
      hash ^= uint32_t{key[(bit + i) / 8]} >> (7 - (bit + i) % 8) % 8 << 31 >> i;
  }
  return hash;
}

TEST(RssKeys, AreSymmetric) {
  std::mt19937 random(3);
  for (const size_t address : {size_t{4}, size_t{16}}) {  // source, destination, and their ports
    for (int round = 0; round < 100; ++round) {
      const RssKey key = symmetric_rss_key(static_cast<uint16_t>(random()));
      std::vector<uint8_t> there(2 * address + 4);
      for (uint8_t& byte : there) byte = static_cast<uint8_t>(random());
      std::vector<uint8_t> back = there;
      std::swap_ranges(back.begin(), back.begin() + static_cast<ptrdiff_t>(address),
                       back.begin() + static_cast<ptrdiff_t>(address));
      std::swap_ranges(back.end() - 4, back.end() - 2, back.end() - 2);
      EXPECT_EQ(toeplitz(key, there), toeplitz(key, back));
    }
  }
}

TEST(RssKeys, TellAllFlowsApartThatTheyCan) {
  for (const uint32_t secret : {0x0000u, 0xffffu, 0x5555u, 0x6d5au, 0x8001u, 0x1234u}) {
    const RssKey key = symmetric_rss_key(static_cast<uint16_t>(secret));
    std::vector<bool> seen(0x10000);
    for (uint32_t word = 0; word < 0x10000; ++word) {
      const std::array<uint8_t, 12> input{static_cast<uint8_t>(word >> 8), static_cast<uint8_t>(word)};
      const size_t hash = toeplitz(key, input) & 0xffff;
      EXPECT_FALSE(seen[hash]) << fmt::format("secret {:#x}: two flows of hash {:#x}", secret, hash);
      seen[hash] = true;
    }
  }
}

TEST(RssKeys, AreTheSecrets) {
  EXPECT_EQ(symmetric_rss_key(0x6d5a), symmetric_rss_key(0x6d5a));
  EXPECT_NE(symmetric_rss_key(0x6d5a), symmetric_rss_key(0x6d5c));
}

TEST(PortNames, AreUnderstood) {
  const auto loopback = parse_port("iface:lo");
  ASSERT_TRUE(loopback);
  EXPECT_EQ(loopback->kind, PortName::Kind::kInterface);
  EXPECT_EQ(loopback->device, "lo");
  EXPECT_EQ(parse_port("lo")->kind, PortName::Kind::kInterface);
  EXPECT_EQ(parse_port("net_af_packet0,iface=lo")->kind, PortName::Kind::kVdev);
  EXPECT_TRUE(parse_port("net_af_packet0,iface=lo")->from_kernel);
  EXPECT_EQ(parse_port("net_ring0,nodeaction=x")->device, "net_ring0");
  EXPECT_EQ(parse_port("03:00.0")->device, "0000:03:00.0");
  EXPECT_EQ(parse_port("0000:03:00.0")->kind, PortName::Kind::kPci);
}

TEST(PortNames, ThatDoNotExistAreNamed) {
  const auto missing = parse_port("iface:no-such-if");
  ASSERT_FALSE(missing);
  EXPECT_NE(missing.error().text().find("no network interface 'no-such-if'"), std::string::npos);
  EXPECT_FALSE(parse_port("rubbish"));
  EXPECT_FALSE(parse_port(""));
  EXPECT_FALSE(parse_port("../../etc"));
}

}  // namespace
}  // namespace synfluid::gateway::testing
