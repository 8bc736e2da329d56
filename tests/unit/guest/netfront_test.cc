// The front end's rings: notification, bounds, and what a back end may do that is odd.
#include "guest/net/netfront.h"

#include <gtest/gtest.h>

#include "tests/unit/guest/rig.h"

namespace synfluid::guest::testing {
namespace {

using net::Netfront;
using net::RxFrame;

class NetfrontTest : public ::testing::Test {
 protected:
  HostEnd host_{AreaConfig{.buffers = 8, .rx_posted = 4}};
  RigPlatform platform_{host_, 64 * 1024};
  Netfront front_{platform_, 4};

  void give(size_t bytes = 100) {
    ASSERT_TRUE(host_.push(Frame(bytes, std::byte{1})));
    host_.publish();
  }
};

TEST_F(NetfrontTest, TakesWhatTheBuilderPostedAndKeepsTheRestForSending) {
  EXPECT_EQ(host_.posted(), 4u);
  for (int i = 0; i < 4; ++i) EXPECT_NE(front_.take(), nullptr);
  EXPECT_EQ(front_.take(), nullptr);
  EXPECT_FALSE(front_.can_transmit());
}

TEST_F(NetfrontTest, ARecycledBufferIsPostedAgain) {
  give();
  RxFrame frame;
  ASSERT_TRUE(front_.receive(frame));
  EXPECT_EQ(frame.length, 100u);
  EXPECT_EQ(host_.posted(), 3u);
  front_.recycle(frame);
  EXPECT_EQ(host_.posted(), 3u) << "not before it is published";
  front_.flush();
  EXPECT_EQ(host_.posted(), 4u);
}

TEST_F(NetfrontTest, ForwardingReplacesTheBufferFromTheFreeOnes) {
  give();
  RxFrame frame;
  ASSERT_TRUE(front_.receive(frame));
  ASSERT_TRUE(front_.forward(frame));
  front_.flush();
  EXPECT_EQ(host_.posted(), 4u);
  EXPECT_EQ(host_.pull().size(), 1u);
}

TEST_F(NetfrontTest, RingsTheHostOnlyWhenItAsked) {
  host_.tx().indices.req_event = 3;
  for (int i = 0; i < 2; ++i) front_.transmit(front_.take(), 60);
  front_.flush();
  EXPECT_EQ(platform_.rings(), 0u);
  for (int i = 0; i < 2; ++i) front_.transmit(front_.take(), 60);
  front_.flush();
  EXPECT_EQ(platform_.rings(), 1u) << "the third passes the event";
  front_.flush();
  EXPECT_EQ(platform_.rings(), 1u) << "nothing new";
}

TEST_F(NetfrontTest, RingsTheHostForPostedBuffersWhenItWaitsForThem) {
  host_.rx().indices.req_event = 5;
  give();
  RxFrame frame;
  ASSERT_TRUE(front_.receive(frame));
  front_.recycle(frame);
  front_.flush();
  EXPECT_EQ(platform_.rings(), 1u);
}

TEST_F(NetfrontTest, ArmAsksForTheNextFrameAndSeesOneThatCameBefore) {
  EXPECT_FALSE(front_.arm(Netfront::Wants::kFrames));
  ASSERT_TRUE(host_.push(Frame(60, std::byte{1})));
  EXPECT_TRUE(host_.publish()) << "the host must ring for it";
  EXPECT_TRUE(front_.arm(Netfront::Wants::kFrames)) << "it is there: no sleep";
}

TEST_F(NetfrontTest, FinishedTransmissionsAreHeardOfOnlyWhenPagesAreScarce) {
  front_.transmit(front_.take(), 60);
  front_.flush();
  EXPECT_FALSE(front_.arm(Netfront::Wants::kFrames));
  host_.pull();
  EXPECT_FALSE(host_.rang_for_tx());
  front_.reap();
  front_.transmit(front_.take(), 60);
  front_.flush();
  EXPECT_FALSE(front_.arm(Netfront::Wants::kBuffers));
  host_.pull();
  EXPECT_TRUE(host_.rang_for_tx());
}

TEST_F(NetfrontTest, AnErrorInsteadOfAFrameCostsNoBuffer) {
  for (int i = 0; i < 1000; ++i) {
    const uint32_t at = host_.rx().indices.rsp_prod;
    const uint16_t id = host_.rx().entries[at % abi::kRingSlots].request.id;
    host_.rx().entries[at % abi::kRingSlots].response = {id, 0, 0, abi::kRspError};
    host_.rx().indices.rsp_prod = at + 1;
    RxFrame frame;
    ASSERT_FALSE(front_.receive(frame));
    front_.flush();
  }
  EXPECT_EQ(front_.counters().unusable, 1000u);
  EXPECT_EQ(host_.rx().indices.req_prod - host_.rx().indices.rsp_prod, 4u);
}

TEST_F(NetfrontTest, AnIdThatIsNotPostedAndASizeBeyondThePageAreRefused) {
  const abi::NetRxResponse odd[] = {{200, 0, 0, 60}, {7, 0, 0, 60}, {0, 4000, 0, 200}, {1, 5000, 0, 60}};
  for (uint32_t i = 0; i < 4; ++i) host_.rx().entries[i].response = odd[i];
  host_.rx().indices.rsp_prod = 4;
  RxFrame frame;
  EXPECT_FALSE(front_.receive(frame));
  EXPECT_EQ(front_.counters().unusable, 4u);
}

TEST_F(NetfrontTest, AFrameOfTooManyPagesAndOneWithoutItsEndAreRefused) {
  for (uint32_t i = 0; i < 4; ++i)
    host_.rx().entries[i].response = {static_cast<uint16_t>(i), 0, abi::kRxMoreData, 4096};
  host_.rx().indices.rsp_prod = 4;
  RxFrame frame;
  EXPECT_FALSE(front_.receive(frame));
  front_.flush();
  EXPECT_EQ(host_.rx().indices.req_prod - host_.rx().indices.rsp_prod, 4u) << "all four are posted again";
}

TEST_F(NetfrontTest, ChecksumFlagsTravelAlong) {
  const Frame frame(60, std::byte{1});
  ASSERT_TRUE(host_.push(std::span(frame), 0, abi::kRxCsumBlank | abi::kRxDataValidated));
  host_.publish();
  RxFrame received;
  ASSERT_TRUE(front_.receive(received));
  EXPECT_TRUE(received.checksum_trusted);
  ASSERT_TRUE(front_.forward(received));
  front_.flush();
  EXPECT_EQ(host_.tx().entries[0].request.flags, abi::kTxCsumBlank | abi::kTxDataValidated);
}

TEST_F(NetfrontTest, IndicesMayWrap) {
  for (uint32_t i = 0; i < 3 * abi::kRingSlots; ++i) {
    give();
    RxFrame frame;
    ASSERT_TRUE(front_.receive(frame)) << i;
    ASSERT_TRUE(front_.forward(frame));
    front_.flush();
    ASSERT_EQ(host_.pull().size(), 1u);
    front_.reap();
  }
}

}  // namespace
}  // namespace synfluid::guest::testing
