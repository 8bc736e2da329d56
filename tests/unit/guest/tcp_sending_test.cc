// TCP, segment by segment: windows, losses and time-outs of what the guest sends.
#include <gtest/gtest.h>

#include "guest/services/http_response.h"
#include "tests/unit/guest/peer.h"

namespace synfluid::guest::testing {
namespace {

constexpr uint64_t kMs = 1'000'000;
constexpr uint64_t kSecond = 1000 * kMs;

class TcpSending : public ::testing::Test {
 protected:
  /// A connection whose answer is much longer than its windows.
  std::vector<Tcp> begin_download(uint16_t window = 65535, std::vector<uint8_t> options = {2, 4, 5, 180}) {
    peer_.base_.window = window;
    peer_.base_.options = std::move(options);
    peer_.connect();
    return peer_.say(simple_get("/bytes/1000000"));
  }
  Rig rig_{AreaConfig{}};
  Peer peer_{rig_};
};

TEST_F(TcpSending, TheFirstFlightIsTenSegments) {
  const auto out = begin_download();
  ASSERT_EQ(out.size(), 10u);
  for (const Tcp& segment : out) EXPECT_EQ(segment.payload.size(), 1460u);
}

TEST_F(TcpSending, TheClientsWindowIsNeverOverrun) {
  auto out = begin_download(5000);
  for (int round = 0; round < 50; ++round) {
    for (const Tcp& segment : out) {
      const auto end = segment.seq + static_cast<uint32_t>(segment.payload.size());
      ASSERT_LE(end - peer_.ack_, 5000u);
    }
    peer_.accept(out);
    out = peer_.send(peer_.segment(kA));
    ASSERT_FALSE(out.empty());
  }
}

TEST_F(TcpSending, AScaledWindowIsTakenAtItsFullSize) {
  auto out = begin_download(1000, {2, 4, 5, 180, 1, 3, 3, 6});
  size_t most = 0;
  for (int round = 0; round < 12; ++round) {
    peer_.accept(out);
    out = peer_.send(peer_.segment(kA));
    most = std::max(most, payloads(out).size());
  }
  EXPECT_GT(most, 10 * 1460u);
  EXPECT_LE(most, 64'000u);
}

TEST_F(TcpSending, ASmallMssIsObeyedAndATinyOneIsNot) {
  for (const auto& [offered, used] : {std::pair{536u, 536u}, {1u, 64u}, {9000u, 1460u}}) {
    Peer peer(rig_, {.sport = static_cast<uint16_t>(offered)});
    peer.base_.options = {2, 4, static_cast<uint8_t>(offered >> 8), static_cast<uint8_t>(offered)};
    peer.connect();
    EXPECT_EQ(peer.say(simple_get("/bytes/100000"))[0].payload.size(), used) << offered;
  }
}

TEST_F(TcpSending, ThreeDuplicateAcksBringTheFirstSegmentAgainAtOnce) {
  const auto flight = begin_download();
  EXPECT_EQ(peer_.send(peer_.segment(kA)).size(), 1u) << "limited transmit";
  EXPECT_EQ(peer_.send(peer_.segment(kA)).size(), 1u) << "limited transmit";
  const auto again = peer_.send(peer_.segment(kA));
  ASSERT_GE(again.size(), 1u);
  EXPECT_EQ(again[0].seq, flight[0].seq);
  EXPECT_EQ(again[0].payload, flight[0].payload);
}

TEST_F(TcpSending, APartialAcknowledgementUncoversTheNextHole) {
  const auto flight = begin_download();
  for (int i = 0; i < 3; ++i) peer_.send(peer_.segment(kA));
  peer_.ack_ = flight[3].seq;
  const auto out = peer_.send(peer_.segment(kA));
  ASSERT_GE(out.size(), 1u);
  EXPECT_EQ(out[0].seq, flight[3].seq);
}

TEST_F(TcpSending, WithoutAnyAckTheFirstSegmentComesAgainWithDoublingDelays) {
  const auto flight = begin_download();
  uint64_t previous = 0;
  for (int i = 0; i < 4; ++i) {
    uint64_t waited = 0;
    std::vector<Tcp> out;
    for (; out.empty() && waited < 100 * kSecond; waited += 10 * kMs) out = peer_.sleep(10 * kMs);
    ASSERT_EQ(out.size(), 1u) << "after a time-out the window is one segment";
    EXPECT_EQ(out[0].seq, flight[0].seq);
    EXPECT_GE(waited, 200 * kMs);
    if (previous != 0) {
      EXPECT_NEAR(static_cast<double>(waited), 2.0 * static_cast<double>(previous),
                  0.05 * static_cast<double>(waited));
    }
    previous = waited;
  }
}

TEST_F(TcpSending, ASilentClientIsGivenUpWithAReset) {
  begin_download();
  const auto out = peer_.sleep(900 * kSecond);
  ASSERT_FALSE(out.empty());
  EXPECT_TRUE(out.back().has(kR));
  EXPECT_LT(out.size(), 15u);
  EXPECT_TRUE(peer_.is_forgotten());
}

TEST_F(TcpSending, AClosedWindowIsProbedAndAnOpenOneUsedAtOnce) {
  auto out = begin_download(2920);
  peer_.accept(out);
  peer_.base_.window = 0;
  EXPECT_TRUE(peer_.send(peer_.segment(kA)).empty());
  std::vector<Tcp> probes = peer_.sleep(3 * kSecond);
  ASSERT_GE(probes.size(), 2u);
  for (const Tcp& probe : probes) {
    EXPECT_EQ(probe.seq, peer_.ack_);
    EXPECT_EQ(probe.payload.size(), 1u);
  }
  // A probe's byte that finds no room is not acknowledged, and comes again in its place.
  EXPECT_TRUE(peer_.send(peer_.segment(kA)).empty());
  peer_.base_.window = 2920;
  out = peer_.send(peer_.segment(kA));
  ASSERT_EQ(out.size(), 2u);
  EXPECT_EQ(out[0].seq, peer_.ack_);
  EXPECT_EQ(out[0].payload.size(), 1460u);
}

TEST_F(TcpSending, AProbeThatIsTakenCounts) {
  auto out = begin_download(1460);
  peer_.accept(out);
  peer_.base_.window = 0;
  peer_.send(peer_.segment(kA));
  const auto probes = peer_.sleep(2 * kSecond);
  ASSERT_FALSE(probes.empty());
  peer_.accept(probes);
  peer_.base_.window = 1460;
  out = peer_.send(peer_.segment(kA));
  ASSERT_EQ(out.size(), 1u);
  EXPECT_EQ(out[0].seq, probes[0].seq + 1);
}

TEST_F(TcpSending, AWindowThatOpensALittleDoesNotBringSmallSegments) {
  auto out = begin_download(14'600);
  peer_.accept(out);
  peer_.base_.window = 100;
  EXPECT_TRUE(peer_.send(peer_.segment(kA)).empty());
}

TEST_F(TcpSending, ALargeAnswerIsWhatItPromised) {
  std::string received;
  auto out = begin_download();
  while (!out.empty()) {
    received += payloads(out);
    peer_.accept(out);
    out = peer_.send(peer_.segment(kA));
  }
  const std::string body = received.substr(received.find("\r\n\r\n") + 4);
  ASSERT_EQ(body.size(), 1'000'000u);
  for (size_t i = 0; i < body.size(); ++i) ASSERT_EQ(body[i], pattern_byte(i)) << i;
}

}  // namespace
}  // namespace synfluid::guest::testing
