// TCP, segment by segment: opening, closing, and what does not belong.
#include <gtest/gtest.h>

#include "tests/unit/guest/peer.h"

namespace synfluid::guest::testing {
namespace {

constexpr uint64_t kMs = 1'000'000;
constexpr uint64_t kSecond = 1000 * kMs;

class TcpTest : public ::testing::Test {
 protected:
  Rig rig_{AreaConfig{}};
  Peer peer_{rig_};
};

TEST_F(TcpTest, ARetransmittedSynGetsTheSameSynAck) {
  const auto first = peer_.send(peer_.syn());
  rig_.platform().advance(300 * kMs);
  const auto second = peer_.send(peer_.syn());
  ASSERT_EQ(first.size(), 1u);
  ASSERT_EQ(second.size(), 1u);
  EXPECT_EQ(second[0].seq, first[0].seq);
  EXPECT_EQ(second[0].ack, first[0].ack);
  EXPECT_EQ(second[0].options, first[0].options);
}

TEST_F(TcpTest, TheSynAckIsRetransmittedAfter1_2_4And8SecondsAndThenGivenUp) {
  ASSERT_EQ(peer_.send(peer_.syn()).size(), 1u);
  for (const uint64_t wait : {1u, 2u, 4u, 8u}) {
    EXPECT_TRUE(peer_.sleep(wait * kSecond - 10 * kMs).empty()) << wait;
    const auto again = peer_.sleep(10 * kMs);
    ASSERT_EQ(again.size(), 1u) << wait;
    EXPECT_EQ(again[0].flags, kS | kA);
  }
  EXPECT_TRUE(peer_.sleep(100 * kSecond).empty());
  peer_.ack_ = 5;
  EXPECT_TRUE(peer_.is_forgotten());
}

TEST_F(TcpTest, OptionsInTheSynAckFollowTheSyn) {
  Tcp syn = peer_.syn();
  syn.options = {2, 4, 5, 180, 1, 3, 3, 7, 4, 2, 8, 10, 0, 0, 0, 1, 0, 0, 0, 0};
  EXPECT_EQ(peer_.send(syn)[0].options, (std::vector<uint8_t>{2, 4, 5, 180, 1, 3, 3, 0}));
  syn.sport = 4001;
  syn.options = {2, 4, 5, 180};
  EXPECT_EQ(peer_.send(syn)[0].options, (std::vector<uint8_t>{2, 4, 5, 180}));
  syn.v6 = true;
  EXPECT_EQ(peer_.send(syn)[0].options, (std::vector<uint8_t>{2, 4, 5, 160}));
}

TEST_F(TcpTest, BrokenOptionsAreSkippedNotObeyed) {
  for (const std::vector<uint8_t>& options :
       {std::vector<uint8_t>{2, 0, 0, 0}, {2, 255, 1, 1}, {3}, {1, 1, 1, 2}, {2, 3, 5, 0}, {250, 1, 0, 0}}) {
    Tcp syn = peer_.syn();
    ++peer_.base_.sport;
    syn.options = options;
    const auto out = peer_.send(syn);
    ASSERT_EQ(out.size(), 1u);
    EXPECT_EQ(out[0].flags, kS | kA);
  }
}

TEST_F(TcpTest, InitialSequenceNumbersDifferByConnectionAndGrowWithTime) {
  const uint32_t first = peer_.send(peer_.syn())[0].seq;
  Peer other(rig_, {.sport = 40001});
  EXPECT_NE(other.send(other.syn())[0].seq, first);
  Rig later{AreaConfig{}};
  later.platform().advance(kSecond);
  Peer again(later);
  EXPECT_EQ(again.send(again.syn())[0].seq, first + 250'000);
}

TEST_F(TcpTest, SegmentsOfNoConnectionAreResetByTheBook) {
  Tcp stray{.seq = 77, .ack = 900, .flags = kA, .payload = "abc"};
  auto out = peer_.send(stray);
  ASSERT_EQ(out.size(), 1u);
  EXPECT_EQ(out[0].flags, kR);
  EXPECT_EQ(out[0].seq, 900u);
  stray.flags = kF;
  out = peer_.send(stray);
  ASSERT_EQ(out.size(), 1u);
  EXPECT_EQ(out[0].flags, kR | kA);
  EXPECT_EQ(out[0].seq, 0u);
  EXPECT_EQ(out[0].ack, 77u + 3 + 1);
  stray.flags = kR;
  EXPECT_TRUE(peer_.send(stray).empty());
}

TEST_F(TcpTest, AHandshakeWithAWrongAckIsResetAndTheRightOneStillWorks) {
  const auto syn_ack = peer_.send(peer_.syn());
  Tcp wrong{.seq = 1001, .ack = syn_ack[0].seq + 2, .flags = kA};
  const auto out = peer_.send(wrong);
  ASSERT_EQ(out.size(), 1u);
  EXPECT_EQ(out[0].flags, kR);
  EXPECT_EQ(out[0].seq, wrong.ack);
  wrong.ack = syn_ack[0].seq + 1;
  wrong.payload = simple_get();
  EXPECT_EQ(payloads(peer_.send(wrong)).substr(0, 15), "HTTP/1.1 200 OK");
}

TEST_F(TcpTest, ARstAtTheRightPlaceEndsTheConnection) {
  peer_.connect();
  EXPECT_TRUE(peer_.send(peer_.segment(kR)).empty());
  EXPECT_TRUE(peer_.is_forgotten());
}

TEST_F(TcpTest, ARstElsewhereInTheWindowIsChallengedAndOutsideIgnored) {
  peer_.connect();
  Tcp reset = peer_.segment(kR);
  reset.seq += 100;
  const auto out = peer_.send(reset);
  ASSERT_EQ(out.size(), 1u);
  EXPECT_EQ(out[0].flags, kA);
  EXPECT_EQ(out[0].ack, peer_.next_);
  reset.seq += 1'000'000;
  EXPECT_TRUE(peer_.send(reset).empty());
  EXPECT_EQ(payloads(peer_.say(simple_get())).substr(0, 15), "HTTP/1.1 200 OK");
}

TEST_F(TcpTest, ASynInAConnectionIsChallengedAndChallengesAreBounded) {
  peer_.connect();
  size_t answers = 0;
  for (uint32_t i = 0; i < 1000; ++i) {
    Tcp syn = peer_.segment(kS);
    syn.seq += i * 1000;
    answers += peer_.send(syn).size();
    rig_.platform().advance(kMs / 10);
  }
  EXPECT_GE(answers, 1u);
  EXPECT_LE(answers, 2u);
  EXPECT_EQ(payloads(peer_.say(simple_get())).substr(0, 15), "HTTP/1.1 200 OK");
}

TEST_F(TcpTest, AnAckOfTheFutureIsChallengedAndItsDataNotTaken) {
  peer_.connect();
  Tcp blind = peer_.segment(kA, simple_get());
  blind.ack += 5000;
  const auto out = peer_.send(blind);
  ASSERT_EQ(out.size(), 1u);
  EXPECT_EQ(out[0].ack, peer_.next_);
  EXPECT_TRUE(out[0].payload.empty());
}

TEST_F(TcpTest, DataThatCameAlreadyIsAcknowledgedAgainAndNotTakenTwice) {
  peer_.connect();
  const Tcp request = peer_.segment(kA, simple_get());
  const auto answer = peer_.send(request);
  EXPECT_FALSE(payloads(answer).empty());
  const auto again = peer_.send(request);
  ASSERT_EQ(again.size(), 1u);
  EXPECT_TRUE(again[0].payload.empty());
  EXPECT_EQ(again[0].ack, answer[0].ack);
}

TEST_F(TcpTest, OverlappingDataIsTakenFromWhereItIsNew) {
  peer_.connect();
  const std::string request = simple_get();
  peer_.say(request.substr(0, 10));
  Tcp overlapping = peer_.segment(kA, "XXXXX" + request.substr(10));
  overlapping.seq -= 5;
  EXPECT_EQ(payloads(peer_.send(overlapping)).substr(0, 15), "HTTP/1.1 200 OK");
}

TEST_F(TcpTest, OutOfOrderDataIsKeptAndEachPieceAcknowledgesTheHole) {
  peer_.connect();
  const std::string request = simple_get();
  for (const size_t at : {20u, 10u}) {
    Tcp ahead = peer_.segment(kA, request.substr(at, at == 20 ? std::string::npos : 10));
    ahead.seq += static_cast<uint32_t>(at);
    const auto out = peer_.send(ahead);
    ASSERT_EQ(out.size(), 1u);
    EXPECT_EQ(out[0].ack, peer_.next_);
  }
  const auto out = peer_.send(peer_.segment(kA, request.substr(0, 10)));
  EXPECT_EQ(payloads(out).substr(0, 15), "HTTP/1.1 200 OK");
  EXPECT_EQ(out[0].ack, peer_.next_ + request.size());
}

TEST_F(TcpTest, AKeepAliveProbeIsAnswered) {
  peer_.connect();
  Tcp probe = peer_.segment(kA);
  probe.seq -= 1;
  const auto out = peer_.send(probe);
  ASSERT_EQ(out.size(), 1u);
  EXPECT_EQ(out[0].flags, kA);
  EXPECT_EQ(out[0].ack, peer_.next_);
}

TEST_F(TcpTest, TheClientClosesFirst) {
  peer_.connect();
  peer_.accept(peer_.say(simple_get()));
  const auto fin = peer_.say("", kF);
  ASSERT_EQ(fin.size(), 1u);
  EXPECT_EQ(fin[0].flags, kF | kA);
  EXPECT_EQ(fin[0].ack, peer_.next_);
  peer_.accept(fin);
  EXPECT_TRUE(peer_.send(peer_.segment(kA)).empty());
  EXPECT_TRUE(peer_.is_forgotten());
}

TEST_F(TcpTest, TheServerClosesFirstAndWaitsOutItsTime) {
  peer_.connect();
  const auto answer = peer_.say(simple_get("/", "Connection: close\r\n"));
  ASSERT_EQ(answer.size(), 1u);
  EXPECT_TRUE(answer[0].has(kF));
  peer_.accept(answer);
  EXPECT_TRUE(peer_.send(peer_.segment(kA)).empty());
  const Tcp fin = peer_.segment(kF | kA);
  for (int i = 0; i < 2; ++i) {
    const auto ack = peer_.send(fin);
    ASSERT_EQ(ack.size(), 1u);
    EXPECT_EQ(ack[0].flags, kA);
    EXPECT_EQ(ack[0].ack, fin.seq + 1);
  }
  peer_.sleep(61 * kSecond);
  EXPECT_TRUE(peer_.is_forgotten());
}

TEST_F(TcpTest, BothCloseAtOnce) {
  peer_.connect();
  const auto answer = peer_.say(simple_get("/", "Connection: close\r\n"));
  ASSERT_TRUE(answer[0].has(kF));
  // Our FIN crosses the guest's: it acknowledges nothing of the answer.
  const auto ack = peer_.say("", kF);
  ASSERT_EQ(ack.size(), 1u);
  EXPECT_EQ(ack[0].ack, peer_.next_);
  peer_.accept(answer);
  EXPECT_TRUE(peer_.send(peer_.segment(kA)).empty());
  // In TIME_WAIT a segment is still known; after it, not.
  EXPECT_TRUE(peer_.send(peer_.segment(kA)).empty());
  peer_.sleep(61 * kSecond);
  EXPECT_TRUE(peer_.is_forgotten());
}

TEST_F(TcpTest, AFinWithDataIsTakenAfterItsData) {
  peer_.connect();
  const auto out = peer_.say(simple_get(), kF);
  EXPECT_EQ(payloads(out).substr(0, 15), "HTTP/1.1 200 OK");
  EXPECT_EQ(out.back().ack, peer_.next_);
  EXPECT_TRUE(out.back().has(kF));
}

TEST_F(TcpTest, ANewSynMayFollowInTimeWaitAnOldOneMayNot) {
  peer_.connect();
  peer_.accept(peer_.say(simple_get("/", "Connection: close\r\n")));
  peer_.send(peer_.segment(kF | kA));
  Tcp old = peer_.syn();
  const auto challenged = peer_.send(old);
  ASSERT_EQ(challenged.size(), 1u);
  EXPECT_EQ(challenged[0].flags, kA);
  Tcp fresh = peer_.syn();
  fresh.seq = peer_.next_ + 1000;
  const auto out = peer_.send(fresh);
  ASSERT_EQ(out.size(), 1u);
  EXPECT_EQ(out[0].flags, kS | kA);
  EXPECT_EQ(out[0].ack, fresh.seq + 1);
}

TEST_F(TcpTest, BadChecksumsAndTruncatedHeadersGetNoAnswer) {
  Tcp syn = peer_.syn();
  syn.break_checksum = true;
  EXPECT_TRUE(peer_.send(syn).empty());
  Frame frame = build(peer_.syn());
  frame[24] ^= std::byte{1};  // the IPv4 header's checksum
  EXPECT_TRUE(rig_.exchange(frame).empty());
  const Frame whole = build(peer_.syn());
  for (size_t length = 1; length < whole.size(); ++length)
    EXPECT_TRUE(rig_.exchange(Frame(whole.begin(), whole.begin() + static_cast<long>(length))).empty())
        << length;
  EXPECT_GT(rig_.report().frames_dropped, 0u);
}

TEST_F(TcpTest, Ipv6PacketsThatPretendToBeIpv4GetNoAnswer) {
  for (const size_t address_at : {22u, 38u}) {
    Frame frame = build(Tcp{.v6 = true, .seq = 1, .flags = kS});
    for (size_t i = 0; i < 12; ++i) frame[address_at + i] = i < 10 ? std::byte{0} : std::byte{0xff};
    ASSERT_TRUE(rig_.host().push(std::span(frame), 0, abi::kRxDataValidated));
    rig_.host().publish();
    EXPECT_TRUE(rig_.run().empty());
  }
}

TEST_F(TcpTest, PaddingBehindThePacketIsNotData) {
  Frame frame = build(peer_.syn());
  frame.resize(60, std::byte{0xee});
  EXPECT_EQ(rig_.exchange(frame).size(), 1u);
}

TEST_F(TcpTest, LinkHeadersComeBackSwappedWithTheirTags) {
  for (const auto& vlans : {std::vector<uint16_t>{}, {7}, {100, 7}}) {
    Peer peer(rig_, {.vlans = vlans});
    const auto out = peer.send(peer.syn());
    ASSERT_EQ(out.size(), 1u);
    EXPECT_EQ(out[0].vlans, vlans);
    EXPECT_EQ(out[0].macs, turned(peer.base_).macs);
  }
}

TEST_F(TcpTest, TheSamePortsOnTwoVlansAreTwoConnections) {
  Peer seven(rig_, {.vlans = {7}});
  Peer eight(rig_, {.vlans = {8}});
  seven.connect();
  eight.connect();
  EXPECT_EQ(payloads(eight.say(simple_get())).substr(0, 15), "HTTP/1.1 200 OK");
  EXPECT_EQ(payloads(seven.say(simple_get())).substr(0, 15), "HTTP/1.1 200 OK");
}

TEST_F(TcpTest, IpOptionsAndExtensionHeadersAreTolerated) {
  Peer options(rig_, {.ip_options = {1, 1, 1, 0}});
  options.connect();
  // Hop-by-hop, then an atomic fragment header, then TCP.
  Peer extensions(rig_, {.v6 = true, .extension_headers = {44, 0, 1, 4, 0, 0, 0, 0, 6, 0, 0, 0, 1, 2, 3, 4}});
  extensions.connect();
}

TEST_F(TcpTest, AnIdleConnectionIsClosedAndThenForgotten) {
  peer_.connect();
  EXPECT_TRUE(peer_.sleep(119 * kSecond).empty());
  const auto fin = peer_.sleep(2 * kSecond);
  ASSERT_GE(fin.size(), 1u);
  EXPECT_EQ(fin[0].flags, kF | kA);
  peer_.sleep(600 * kSecond);
  EXPECT_TRUE(peer_.is_forgotten());
}

TEST(TcpTable, AFullTableDropsSynsAndRecyclesTheOldestTimeWait) {
  Rig rig({}, kMinMemoryBytes);
  uint32_t opened = 0;
  std::vector<Peer> peers;
  for (uint16_t i = 0; i < 2000; ++i) {
    Peer peer(rig, {.sport = static_cast<uint16_t>(10'000 + i)});
    if (peer.send(peer.syn()).empty()) break;
    peers.push_back(peer);
    ++opened;
  }
  EXPECT_GT(opened, 20u);
  EXPECT_LT(opened, 2000u);
  Peer late(rig, {.sport = 9});
  EXPECT_TRUE(late.send(late.syn()).empty());
  // One connection ends in TIME_WAIT: its place goes to the next SYN.
  Peer& first = peers[0];
  const auto syn_ack = first.send(first.syn());
  first.iss_ = syn_ack[0].seq;
  first.next_ = first.isn_ + 1;
  first.ack_ = first.iss_ + 1;
  first.accept(first.say(simple_get("/", "Connection: close\r\n")));
  EXPECT_EQ(first.send(first.segment(kF | kA)).size(), 1u);
  EXPECT_EQ(late.send(late.syn()).size(), 1u);
}

}  // namespace
}  // namespace synfluid::guest::testing
