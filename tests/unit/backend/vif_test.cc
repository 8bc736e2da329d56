// The vif against a model front end, with the guest's pages seeded, mapped on demand, and copied.
#include "backend/vif.h"

#include <algorithm>
#include <cstring>
#include <string>

#include <gtest/gtest.h>

#include "tests/unit/backend/front_end.h"

namespace synfluid::backend {
namespace {

using testing::FakeLink;
using testing::Frame;
using testing::FrontEnd;
using testing::Grants;
using testing::GuestMemory;
using testing::LinkLog;

Frame pattern(size_t bytes, uint8_t seed = 1) {
  Frame frame(bytes);
  for (size_t i = 0; i < bytes; ++i) frame[i] = static_cast<std::byte>(i * 7 + seed);
  return frame;
}

struct Rig {
  explicit Rig(Grants grants, GuestLink::FrontEnd traits = {})
      : vif(std::make_unique<FakeLink>(memory, grants, log, traits)) {}

  Frame receive() {
    const size_t bytes = vif.receive(into);
    return {into.begin(), into.begin() + static_cast<ptrdiff_t>(bytes)};
  }

  GuestMemory memory{64};
  std::shared_ptr<LinkLog> log = std::make_shared<LinkLog>();
  FrontEnd guest{memory};
  Vif vif;
  Frame into = Frame(kMaxFrameBytes);
};

std::string name_of(const ::testing::TestParamInfo<Grants>& info) {
  switch (info.param) {
    case Grants::kSeeded:
      return "seeded";
    case Grants::kPersistent:
      return "persistent";
    case Grants::kCopied:
      return "copied";
  }
  return "unknown";
}

class VifTest : public ::testing::TestWithParam<Grants> {
 protected:
  Rig rig{GetParam()};
};
INSTANTIATE_TEST_SUITE_P(AllGrants, VifTest,
                         ::testing::Values(Grants::kSeeded, Grants::kPersistent, Grants::kCopied), name_of);

TEST_P(VifTest, AFrameReachesTheGuestAfterTheFlush) {
  rig.guest.post(4);
  const Frame frame = pattern(1500);
  ASSERT_TRUE(rig.vif.send(frame));
  EXPECT_TRUE(rig.guest.receive().empty());
  rig.vif.flush();
  EXPECT_EQ(rig.guest.receive(), frame);
  EXPECT_EQ(rig.log->notifications, 1);
  EXPECT_EQ(rig.vif.counters().frames_to_guest, 1u);
  EXPECT_EQ(rig.vif.counters().bytes_to_guest, 1500u);
}

/// Posts a buffer, as RING_PUSH_REQUESTS_AND_CHECK_NOTIFY does: true if the back end wants to know.
bool post_and_check(Rig& rig) {
  const uint32_t before = rig.memory.rx().indices.req_prod;
  rig.guest.post(1);
  const uint32_t now = rig.memory.rx().indices.req_prod;
  return now - rig.memory.rx().indices.req_event < now - before;
}

TEST_P(VifTest, AnArmedVifThatFoundNoBufferIsRungForOne) {
  rig.guest.post(2);
  const Frame frame = pattern(500);
  ASSERT_TRUE(rig.vif.send(frame));
  ASSERT_TRUE(rig.vif.send(frame));
  EXPECT_FALSE(rig.vif.send(frame));
  EXPECT_FALSE(rig.vif.arm());
  EXPECT_TRUE(post_and_check(rig)) << "nobody would tell the host";
  ASSERT_TRUE(rig.vif.send(frame));
  EXPECT_FALSE(rig.vif.arm());
  EXPECT_FALSE(post_and_check(rig)) << "a doorbell that nobody wants";
}

TEST_P(VifTest, ABufferThatCameBeforeArmingIsToldOfOnce) {
  EXPECT_FALSE(rig.vif.send(pattern(500)));
  rig.guest.post(1);
  EXPECT_TRUE(rig.vif.arm());
  EXPECT_FALSE(rig.vif.arm()) << "who does not want it any more must be able to sleep";
}

TEST_P(VifTest, AFrameOfTheGuestIsReceivedAndAnswered) {
  const Frame frame = pattern(60);
  rig.guest.transmit(frame, 0, 100);
  EXPECT_EQ(rig.receive(), frame);
  EXPECT_TRUE(rig.receive().empty());
  EXPECT_TRUE(rig.guest.tx_statuses().empty());
  rig.vif.flush();
  EXPECT_EQ(rig.guest.tx_statuses(), std::vector<int16_t>{abi::kRspOkay});
  EXPECT_EQ(rig.vif.counters().frames_from_guest, 1u);
}

TEST_P(VifTest, AForeignEndOfFlowsGetsPlainFramesAndItsQueriesAnswered) {
  constexpr MacAddress kGuest = {0x02, 0, 0, 0, 0, 0x77};
  rig.vif.adapt_link_layer(kGuest);
  rig.guest.post(4);
  Frame tagged = pattern(60);
  const std::array<uint8_t, 7> type_and_tag = {0x81, 0x00, 0x00, 0x64, 0x08, 0x00, 0x45};
  std::memcpy(tagged.data() + 12, type_and_tag.data(), type_and_tag.size());
  ASSERT_TRUE(rig.vif.send(tagged));
  rig.vif.flush();
  const Frame seen = rig.guest.receive();
  ASSERT_EQ(seen.size(), 56u);  // the tag is gone
  EXPECT_TRUE(std::equal(kGuest.begin(), kGuest.end(), reinterpret_cast<const uint8_t*>(seen.data())));
  EXPECT_TRUE(std::equal(seen.begin() + 14, seen.end(), tagged.begin() + 18));

  Frame query(42);
  const std::array<uint8_t, 10> arp = {0x08, 0x06, 0, 1, 8, 0, 6, 4, 0, 1};
  std::memcpy(query.data() + 12, arp.data(), arp.size());
  query[28] = std::byte{10};   // sender 10.0.0.0
  query[38] = std::byte{192};  // target 192.0.0.0
  rig.guest.transmit(query);
  const Frame frame = pattern(60);
  rig.guest.transmit(frame);
  EXPECT_EQ(rig.receive(), frame);  // the query is none of the owner's business
  rig.vif.flush();
  EXPECT_EQ(rig.guest.receive().size(), 42u);
}

TEST_P(VifTest, WhatIsNoIpPacketIsNotSentToAForeignEnd) {
  rig.vif.adapt_link_layer({});
  rig.guest.post(4);
  EXPECT_FALSE(rig.vif.send(pattern(60)));
  EXPECT_EQ(rig.vif.counters().too_long, 1u);
}

TEST_P(VifTest, FramesKeepTheirOrder) {
  rig.guest.post(30);
  for (uint8_t i = 0; i < 30; ++i) ASSERT_TRUE(rig.vif.send(pattern(100u + i, i)));
  rig.vif.flush();
  for (uint8_t i = 0; i < 30; ++i) EXPECT_EQ(rig.guest.receive(), pattern(100u + i, i));
  for (uint8_t i = 0; i < 30; ++i) rig.guest.transmit(pattern(200u + i, i));
  for (uint8_t i = 0; i < 30; ++i) EXPECT_EQ(rig.receive(), pattern(200u + i, i));
}

TEST_P(VifTest, AFrameInPiecesComesOutWhole) {
  const Frame frame = pattern(9000);
  rig.guest.transmit_pieces(frame, std::array<size_t, 5>{14, 2000, 4096, 2889, 1});
  EXPECT_EQ(rig.receive(), frame);
  rig.vif.flush();
  EXPECT_EQ(rig.guest.tx_statuses(), std::vector<int16_t>(5, abi::kRspOkay));
}

TEST_P(VifTest, EighteenSlotsAreTakenAndNineteenRefused) {
  std::vector<size_t> sizes(18, 100);
  rig.guest.transmit_pieces(pattern(1800), sizes);
  sizes.push_back(100);
  rig.guest.transmit_pieces(pattern(1900), sizes);
  rig.guest.transmit(pattern(77));
  EXPECT_EQ(rig.receive().size(), 1800u);
  EXPECT_EQ(rig.receive().size(), 77u);
  rig.vif.flush();
  const auto statuses = rig.guest.tx_statuses();
  EXPECT_EQ(std::count(statuses.begin(), statuses.end(), abi::kRspError), 19);
  EXPECT_EQ(rig.vif.counters().bad_tx_request, 1u);
  EXPECT_FALSE(rig.vif.broken());
}

TEST_P(VifTest, AFullGuestRefusesTheFrameAndCountsIt) {
  rig.guest.post(1);
  EXPECT_TRUE(rig.vif.send(pattern(64)));
  EXPECT_FALSE(rig.vif.send(pattern(64)));
  EXPECT_EQ(rig.vif.counters().no_rx_buffer, 1u);
  rig.guest.post(1);
  EXPECT_TRUE(rig.vif.send(pattern(64)));
}

TEST_P(VifTest, ALongFrameNeedsAFrontEndThatTakesChains) {
  rig.guest.post(8);
  EXPECT_TRUE(rig.vif.send(pattern(4096)));
  EXPECT_FALSE(rig.vif.send(pattern(4097)));
  EXPECT_FALSE(rig.vif.send({}));
  EXPECT_EQ(rig.vif.counters().too_long, 2u);
  EXPECT_EQ(rig.vif.max_send_bytes(), 4096u);

  Rig chains(GetParam(), {.receives_chains = true});
  chains.guest.post(2);
  EXPECT_FALSE(chains.vif.send(pattern(9000)));  // two buffers are not enough, and none is used up
  chains.guest.post(1);
  EXPECT_TRUE(chains.vif.send(pattern(9000)));
  EXPECT_FALSE(chains.vif.send(pattern(kMaxFrameBytes + 1)));
  chains.vif.flush();
  EXPECT_EQ(chains.guest.receive(), pattern(9000));
}

TEST_P(VifTest, ABufferThatIsNotGrantedGoesBackWithAnErrorAndTheNextOneIsUsed) {
  rig.memory.rx().entries[0].request = {9, 0, 4711};
  rig.memory.rx().entries[1].request = {10, 0, GuestMemory::gref_of(10)};
  rig.memory.rx().indices.req_prod = 2;
  ASSERT_TRUE(rig.vif.send(pattern(64)));
  rig.vif.flush();
  EXPECT_EQ(rig.guest.take_rx_response()->status, abi::kRspError);
  EXPECT_EQ(rig.vif.counters().bad_rx_request, 1u);
  if (GetParam() == Grants::kCopied) return;  // there the copy finds out, and the frame is lost
  const auto second = rig.guest.take_rx_response();
  ASSERT_TRUE(second);
  EXPECT_EQ(second->id, 10);
  EXPECT_EQ(second->status, 64);
}

TEST_P(VifTest, TheGuestIsRungOnlyWhenItsRingAsks) {
  rig.guest.post(10);
  rig.memory.rx().indices.rsp_event = 3;  // wake me at the third frame
  for (int i = 0; i < 2; ++i) {
    ASSERT_TRUE(rig.vif.send(pattern(64)));
    rig.vif.flush();
  }
  EXPECT_EQ(rig.log->notifications, 0);
  for (int i = 0; i < 4; ++i) {
    ASSERT_TRUE(rig.vif.send(pattern(64)));
    rig.vif.flush();
  }
  EXPECT_EQ(rig.log->notifications, 1);
  EXPECT_EQ(rig.vif.counters().notifications, 1u);
}

TEST_P(VifTest, ABurstRingsOnce) {
  rig.guest.post(10);
  rig.guest.transmit(pattern(64));
  for (int i = 0; i < 10; ++i) ASSERT_TRUE(rig.vif.send(pattern(64)));
  rig.receive();
  rig.vif.flush();
  rig.vif.flush();
  EXPECT_EQ(rig.log->notifications, 1);
  EXPECT_EQ(rig.log->copy_calls, GetParam() == Grants::kCopied ? 2 : 0);
}

TEST_P(VifTest, AnArmedVifHearsOfTheNextFrameAndABusyOneDoesNot) {
  EXPECT_FALSE(rig.vif.arm());
  const uint32_t buffer = *rig.guest.take_buffer();
  const testing::TxSlot slot{{GuestMemory::gref_of(buffer), 0, 0, static_cast<uint16_t>(buffer), 64}};
  rig.guest.put(slot);
  EXPECT_TRUE(rig.guest.publish_tx_and_check());
  EXPECT_TRUE(rig.vif.arm());  // it has come already
  EXPECT_EQ(rig.receive().size(), 64u);
  EXPECT_FALSE(rig.vif.arm());
  rig.guest.put(slot);
  EXPECT_TRUE(rig.guest.publish_tx_and_check());
  EXPECT_EQ(rig.receive().size(), 64u);
  rig.guest.put(slot);
  EXPECT_FALSE(rig.guest.publish_tx_and_check());
}

TEST_P(VifTest, IndicesMayWrapAround) {
  rig.memory.tx().indices = {
      .req_prod = 0xfffffffe, .req_event = 0, .rsp_prod = 0xfffffffe, .rsp_event = 0xffffffff, .pad = {}};
  Vif vif(std::make_unique<FakeLink>(rig.memory, GetParam(), rig.log));
  for (uint32_t i = 0xfffffffe; i != 4; ++i)
    rig.memory.tx().entries[i % abi::kRingSlots].request = {GuestMemory::gref_of(0), 0, 0, 7, 64};
  rig.memory.tx().indices.req_prod = 4;
  for (int i = 0; i < 6; ++i) EXPECT_EQ(vif.receive(rig.into), 64u);
  EXPECT_EQ(vif.receive(rig.into), 0u);
  vif.flush();
  EXPECT_EQ(rig.memory.tx().indices.rsp_prod, 4u);
  EXPECT_FALSE(vif.broken());
  EXPECT_EQ(rig.log->notifications, 1);
}

TEST_P(VifTest, ANewBackEndContinuesWhereTheOldOneAnswered) {
  rig.guest.transmit(pattern(64, 1));
  rig.guest.transmit(pattern(65, 2));
  ASSERT_EQ(rig.receive().size(), 64u);
  if (GetParam() == Grants::kCopied) rig.receive();
  rig.vif.flush();
  rig.guest.transmit(pattern(66, 3));
  Vif next(std::make_unique<FakeLink>(rig.memory, GetParam(), rig.log));
  const size_t expected = GetParam() == Grants::kCopied ? 66 : 65;
  EXPECT_EQ(next.receive(rig.into), expected);
}

TEST_P(VifTest, TheLinkGoesWithTheVif) {
  {
    Rig local(GetParam());
    rig.log = local.log;
    EXPECT_TRUE(rig.log->alive);
  }
  EXPECT_FALSE(rig.log->alive);
}

TEST(Vif, AChainWaitsForAllOfItsBuffers) {
  Rig rig(Grants::kSeeded, {.receives_chains = true});
  rig.guest.post(1);
  EXPECT_FALSE(rig.vif.send(pattern(9000)));
  EXPECT_FALSE(rig.vif.arm()) << "one of three buffers is no reason to look";
  EXPECT_FALSE(post_and_check(rig));
  EXPECT_TRUE(post_and_check(rig));
  EXPECT_TRUE(rig.vif.send(pattern(9000)));
}

TEST(Vif, AVerifiedChecksumIsToldToTheGuest) {
  Rig rig(Grants::kSeeded);
  rig.guest.post(2);
  ASSERT_TRUE(rig.vif.send(pattern(64), FrameChecksum::kVerified));
  ASSERT_TRUE(rig.vif.send(pattern(64)));
  rig.vif.flush();
  rig.guest.receive();
  EXPECT_EQ(rig.guest.last_rx_flags, abi::kRxDataValidated);
  rig.guest.receive();
  EXPECT_EQ(rig.guest.last_rx_flags, 0);
}

TEST(Vif, SeededPagesAreNeverMappedAgain) {
  Rig rig(Grants::kSeeded);
  rig.guest.transmit(pattern(64));
  EXPECT_EQ(rig.receive().size(), 64u);
  EXPECT_EQ(rig.log->maps, 0);
  EXPECT_EQ(rig.log->copy_calls, 0);
}

TEST(Vif, TheAgeOfTheSynIsOnTheCardOfAGuestOfOurs) {
  Rig rig(Grants::kSeeded);
  rig.vif.stamp_syn_age(123456789);
  EXPECT_EQ(reinterpret_cast<const abi::Card*>(rig.memory.page(0))->assignment.syn_age_ns, 123456789u);
  Rig foreign(Grants::kCopied);
  foreign.vif.stamp_syn_age(1);
}

}  // namespace
}  // namespace synfluid::backend
