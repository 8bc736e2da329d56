#include "gateway/client_player.h"

#include <string>

#include <gtest/gtest.h>

#include "base/clock.h"
#include "gateway/tcp_frame.h"

namespace synfluid::gateway::testing {
namespace {

using namespace tcp_flag;
using Frame = std::vector<std::byte>;

constexpr uint32_t kIsn = 1000;
constexpr uint32_t kVmIsn = 70000;

/// A player, the frames it sent, and the means to speak to it as the trace or the VM.
class PlayerTest : public ::testing::Test {
 protected:
  PlayerTest() {
    const Frame syn = frame(true, kSyn, kIsn, 0, "");
    player_.emplace(syn, parse_packet(syn),
                    [this](std::span<const std::byte> f) { sent_.emplace_back(f.begin(), f.end()); });
  }

  static Frame frame(bool from_client, uint8_t flags, uint32_t seq, uint32_t ack, const std::string& payload,
                     uint16_t window = 60000) {
    static const Frame kLink = [] {
      Frame link(14, std::byte{2});
      link[12] = std::byte{8};
      link[13] = std::byte{0};
      return link;
    }();
    TcpFrame spec;
    spec.link_header = kLink;
    spec.source = {Address::from_v4(std::array<uint8_t, 4>{10, 0, 0, 1}), 40000};
    spec.destination = {Address::from_v4(std::array<uint8_t, 4>{10, 0, 0, 2}), 80};
    if (!from_client) std::swap(spec.source, spec.destination);
    spec.flags = flags;
    spec.seq = seq;
    spec.ack = ack;
    spec.window = window;
    spec.payload = std::as_bytes(std::span(payload));
    Frame bytes(kMaxTcpHeaders + payload.size());
    bytes.resize(write_tcp_frame(spec, bytes));
    return bytes;
  }

  void trace(uint8_t flags, uint32_t seq, const std::string& payload = "") {
    const Frame f = frame(true, flags, seq, 555, payload);
    player_->trace_packet(f, parse_packet(f), now_ns_);
  }
  void vm(uint8_t flags, uint32_t seq, uint32_t ack, const std::string& payload = "",
          uint16_t window = 60000) {
    const Frame f = frame(false, flags, seq, ack, payload, window);
    player_->vm_packet(f, parse_packet(f), now_ns_);
  }
  void establish() {
    vm(kSyn | kAck, kVmIsn, kIsn + 1);
    trace(kAck, kIsn + 1);
    sent_.clear();
  }
  ParsedPacket last() const { return parse_packet(sent_.back()); }
  std::string payload_of(const Frame& f) const {
    const ParsedPacket p = parse_packet(f);
    return {reinterpret_cast<const char*>(f.data()) + p.payload_offset, p.payload_length};
  }

  std::vector<Frame> sent_;
  std::optional<ClientPlayer> player_;
  int64_t now_ns_ = 0;
};

TEST_F(PlayerTest, AcknowledgesTheVmsNumbersNotTheTraces) {
  vm(kSyn | kAck, kVmIsn, kIsn + 1);
  EXPECT_TRUE(sent_.empty()) << "the trace's client has not acknowledged yet";
  trace(kAck, kIsn + 1);
  ASSERT_EQ(sent_.size(), 1u);
  EXPECT_EQ(last().tcp_ack, kVmIsn + 1);
  EXPECT_EQ(last().tcp_seq, kIsn + 1);
}

TEST_F(PlayerTest, SendsTheTracesPayloadAndWaitsForItsAcknowledgement) {
  establish();
  trace(kAck | kPsh, kIsn + 1, "GET /");
  ASSERT_EQ(sent_.size(), 1u);
  EXPECT_EQ(payload_of(sent_[0]), "GET /");
  EXPECT_FALSE(player_->idle());
  vm(kAck, kVmIsn + 1, kIsn + 6);
  EXPECT_TRUE(player_->idle());
}

TEST_F(PlayerTest, AcknowledgesWhatTheVmSends) {
  establish();
  vm(kAck | kPsh, kVmIsn + 1, kIsn + 1, "page");
  EXPECT_EQ(last().tcp_ack, kVmIsn + 5);
  EXPECT_EQ(player_->bytes_from_vm(), 4u);
  vm(kAck | kPsh, kVmIsn + 1, kIsn + 1, "page");  // again
  EXPECT_EQ(player_->bytes_from_vm(), 4u);
  vm(kAck | kFin, kVmIsn + 5, kIsn + 1);
  EXPECT_EQ(last().tcp_ack, kVmIsn + 6);
}

TEST_F(PlayerTest, LeavesOutWhatTheTraceRepeats) {
  establish();
  trace(kAck, kIsn + 1, "abc");
  trace(kAck, kIsn + 1, "abc");
  trace(kAck, kIsn + 2, "bcde");  // overlaps
  ASSERT_EQ(sent_.size(), 2u);
  EXPECT_EQ(payload_of(sent_[0]) + payload_of(sent_[1]), "abcde");
}

TEST_F(PlayerTest, PutsTheTracesSegmentsIntoTheirOrder) {
  establish();
  trace(kAck, kIsn + 4, "def");
  EXPECT_TRUE(sent_.empty());
  trace(kAck, kIsn + 1, "abc");
  ASSERT_EQ(sent_.size(), 2u);
  EXPECT_EQ(payload_of(sent_[0]) + payload_of(sent_[1]), "abcdef");
}

TEST_F(PlayerTest, ClosesAGapThatTheCaptureLost) {
  establish();
  trace(kAck, kIsn + 1, "abc");
  trace(kAck, kIsn + 100, "xyz");
  trace(kAck | kFin, kIsn + 103);
  ASSERT_EQ(sent_.size(), 3u);
  EXPECT_EQ(parse_packet(sent_[1]).tcp_seq, kIsn + 4) << "the VM sees no gap";
  EXPECT_EQ(payload_of(sent_[1]), "xyz");
  EXPECT_TRUE(parse_packet(sent_[2]).has_flag(kFin));
}

TEST_F(PlayerTest, SendsAgainWhatIsNotAcknowledgedAndGivesUpInTheEnd) {
  establish();
  trace(kAck, kIsn + 1, "abc");
  for (int i = 0; i < 100 && !player_->is_over(); ++i) {
    now_ns_ += 100 * kNsPerMs;
    player_->tick(now_ns_);
  }
  EXPECT_TRUE(player_->is_over());
  EXPECT_TRUE(player_->idle());
  EXPECT_EQ(sent_.size(), 5u);
  for (const Frame& f : sent_) EXPECT_EQ(payload_of(f), "abc");
}

TEST_F(PlayerTest, KeepsToTheVmsWindow) {
  establish();
  vm(kAck, kVmIsn + 1, kIsn + 1, "", 600);
  trace(kAck, kIsn + 1, std::string(1400, 'x'));
  ASSERT_EQ(sent_.size(), 1u) << "without an MSS option, 536 bytes a segment";
  vm(kAck, kVmIsn + 1, kIsn + 1 + 536, "", 60000);
  EXPECT_EQ(sent_.size(), 3u);
}

TEST_F(PlayerTest, SaysNothingBeforeTheVmHasAnswered) {
  trace(kAck, kIsn + 1);
  trace(kAck, kIsn + 1, "early");
  EXPECT_TRUE(sent_.empty());
  vm(kSyn | kAck, kVmIsn, kIsn + 1);
  EXPECT_EQ(payload_of(sent_.back()), "early");
}

TEST_F(PlayerTest, ResetsWhereTheTraceDoes) {
  establish();
  trace(kRst, kIsn + 1);
  EXPECT_TRUE(last().has_flag(kRst));
  EXPECT_TRUE(player_->is_over());
}

TEST_F(PlayerTest, IsOverWhenTheVmResets) {
  establish();
  trace(kAck, kIsn + 1, "abc");
  vm(kRst, kVmIsn + 1, 0);
  EXPECT_TRUE(player_->idle());
}

}  // namespace
}  // namespace synfluid::gateway::testing
