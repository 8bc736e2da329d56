// Guests that break the ring protocol: they are counted and survived, and lose their vif when there is no way
// on.
#include <array>
#include <atomic>
#include <memory>
#include <thread>

#include <gtest/gtest.h>

#include "backend/vif.h"
#include "tests/unit/backend/front_end.h"

namespace synfluid::backend {
namespace {

using testing::extra_slot;
using testing::FakeLink;
using testing::Frame;
using testing::FrontEnd;
using testing::Grants;
using testing::GuestMemory;
using testing::LinkLog;
using testing::TxSlot;

constexpr uint8_t kMore = 1;
constexpr uint8_t kMulticastAdd = 2;
constexpr uint8_t kHash = 4;

class HostileVif : public ::testing::TestWithParam<Grants> {
 protected:
  HostileVif() : vif(std::make_unique<FakeLink>(memory, GetParam(), std::make_shared<LinkLog>())) {}

  void request(uint16_t offset, uint16_t size, uint16_t flags = 0, uint32_t gref = GuestMemory::gref_of(0)) {
    guest.put({{gref, offset, flags, 5, size}});
  }
  size_t receive() {
    guest.publish_tx();
    const size_t bytes = vif.receive(into);
    vif.flush();
    return bytes;
  }
  void expect_one_refused() {
    const auto before = vif.counters().bad_tx_request;
    EXPECT_EQ(receive(), 0u);
    EXPECT_EQ(vif.counters().bad_tx_request, before + 1);
    EXPECT_FALSE(vif.broken());
    const auto statuses = guest.tx_statuses();
    ASSERT_FALSE(statuses.empty());
    EXPECT_EQ(statuses.front(), abi::kRspError);
  }

  GuestMemory memory{32};
  FrontEnd guest{memory};
  Vif vif;
  Frame into = Frame(kMaxFrameBytes);
};
INSTANTIATE_TEST_SUITE_P(AllGrants, HostileVif,
                         ::testing::Values(Grants::kSeeded, Grants::kPersistent, Grants::kCopied));

TEST_P(HostileVif, RequestsOutOfBoundsAreRefusedOneByOne) {
  request(4090, 60);
  expect_one_refused();
  request(65535, 65535);
  expect_one_refused();
  request(0, 0);
  expect_one_refused();
  request(0, 13);
  expect_one_refused();
  request(0, 4097);
  expect_one_refused();
  request(0, 60, 0, 4711);
  expect_one_refused();
  request(0, 60, 0, 0xffffffff);
  expect_one_refused();
  request(0, 60);
  EXPECT_EQ(receive(), 60u);
}

TEST_P(HostileVif, FragmentsLongerThanTheirFrameAreRefused) {
  request(0, 100, abi::kTxMoreData);
  request(0, 100);
  expect_one_refused();
  request(0, 100, abi::kTxMoreData);
  request(0, 4096, abi::kTxMoreData);
  request(0, 4096);
  expect_one_refused();
  request(0, 100, abi::kTxMoreData);
  request(0, 0);
  expect_one_refused();
  request(0, 9217, abi::kTxMoreData);
  request(0, 4096, abi::kTxMoreData);
  request(0, 4096, abi::kTxMoreData);
  request(0, 1000);
  expect_one_refused();
}

TEST_P(HostileVif, AFrameWithoutAnEndBreaksTheVif) {
  request(0, 100, abi::kTxMoreData);
  EXPECT_EQ(receive(), 0u);
  EXPECT_TRUE(vif.broken());
  EXPECT_EQ(vif.reason(), "transmit ring: frame without an end");
}

TEST_P(HostileVif, ExtraInfoWithoutAnEndBreaksTheVif) {
  request(0, 100, abi::kTxExtraInfo);
  guest.put(extra_slot(kHash, kMore));
  EXPECT_EQ(receive(), 0u);
  EXPECT_TRUE(vif.broken());
}

TEST_P(HostileVif, AWholeRingOfOneFrameIsRefusedWithAnAnswerToEachSlot) {
  for (uint32_t i = 0; i < abi::kRingSlots; ++i)
    request(0, 9000, i + 1 < abi::kRingSlots ? abi::kTxMoreData : uint16_t{0});
  EXPECT_EQ(receive(), 0u);
  EXPECT_FALSE(vif.broken());
  EXPECT_EQ(guest.tx_statuses().size(), abi::kRingSlots);
}

TEST_P(HostileVif, KnownExtraInfoIsConsumedAndAnsweredAsNull) {
  request(0, 60, abi::kTxExtraInfo);
  guest.put(extra_slot(kHash, 0));
  EXPECT_EQ(receive(), 60u);
  EXPECT_EQ(guest.tx_statuses(), (std::vector<int16_t>{abi::kRspOkay, abi::kRspNull}));
}

TEST_P(HostileVif, AMulticastRequestCarriesNoFrame) {
  request(0, 60, abi::kTxExtraInfo);
  guest.put(extra_slot(kMulticastAdd, 0));
  request(0, 61);
  EXPECT_EQ(receive(), 61u);
  EXPECT_EQ(vif.counters().bad_tx_request, 0u);
  EXPECT_EQ(guest.tx_statuses(), (std::vector<int16_t>{abi::kRspOkay, abi::kRspNull, abi::kRspOkay}));
}

TEST_P(HostileVif, UnknownExtraInfoAndSegmentationOffloadAreRefused) {
  for (const uint8_t type : {uint8_t{0}, uint8_t{1}, uint8_t{5}, uint8_t{255}}) {
    request(0, 60, abi::kTxExtraInfo);
    guest.put(extra_slot(type, 0));
    expect_one_refused();
  }
}

TEST_P(HostileVif, ATransmitIndexTooFarAheadBreaksTheVif) {
  memory.tx().indices.req_prod = abi::kRingSlots + 1;
  EXPECT_EQ(vif.receive(into), 0u);
  EXPECT_TRUE(vif.broken());
  EXPECT_EQ(vif.reason(), "transmit ring: impossible producer index");
  EXPECT_FALSE(vif.send(Frame(64)));
  EXPECT_FALSE(vif.arm());
  vif.flush();
}

TEST_P(HostileVif, ATransmitIndexThatGoesBackBreaksTheVif) {
  request(0, 60);
  request(0, 60);
  EXPECT_EQ(receive(), 60u);
  memory.tx().indices.req_prod = 0;
  EXPECT_TRUE(vif.receive(into) == 60u || vif.broken());
  vif.receive(into);
  vif.arm();
  EXPECT_TRUE(vif.broken());
}

TEST_P(HostileVif, AReceiveIndexTooFarAheadBreaksTheVif) {
  memory.rx().indices.req_prod = 0x80000000;
  EXPECT_FALSE(vif.send(Frame(64)));
  EXPECT_TRUE(vif.broken());
  EXPECT_EQ(vif.reason(), "receive ring: impossible producer index");
}

// With plain grants answers wait for the batch of copies, so requests can be consumed and not answered.
TEST(HostileVifWithPlainGrants, RequestsInTheSlotsOfUnansweredOnesBreakTheVif) {
  GuestMemory memory(32);
  FrontEnd guest(memory);
  Vif vif(std::make_unique<FakeLink>(memory, Grants::kCopied, std::make_shared<LinkLog>()));
  guest.post(10);
  for (int i = 0; i < 10; ++i) ASSERT_TRUE(vif.send(Frame(64)));
  memory.rx().indices.req_prod = 10 + abi::kRingSlots;
  EXPECT_FALSE(vif.send(Frame(64)));
  EXPECT_EQ(vif.reason(), "receive ring: impossible producer index");
}

TEST_P(HostileVif, OneCallSkipsABoundedNumberOfBadRequestsAndArmSaysThereIsMore) {
  for (int i = 0; i < 200; ++i) request(4000, 1000);
  EXPECT_EQ(receive(), 0u);
  EXPECT_EQ(vif.counters().bad_tx_request, 64u);
  EXPECT_TRUE(vif.arm());
}

TEST_P(HostileVif, NothingButBadRequestsBreaksTheVifInTheEnd) {
  for (int i = 0; i < 4096 && !vif.broken(); ++i) {
    request(4000, 1000);
    receive();
    guest.tx_statuses();
  }
  EXPECT_TRUE(vif.broken());
  EXPECT_EQ(vif.reason(), "nothing but bad requests");
  EXPECT_EQ(vif.counters().bad_tx_request, 4096u);
}

TEST_P(HostileVif, UngrantedReceiveBuffersCostABoundedTime) {
  for (uint16_t i = 0; i < abi::kRingSlots; ++i) memory.rx().entries[i].request = {i, 0, 0xdead};
  memory.rx().indices.req_prod = abi::kRingSlots;
  const bool is_sent = vif.send(Frame(64));
  EXPECT_EQ(is_sent, GetParam() == Grants::kCopied);
  vif.flush();
  EXPECT_EQ(vif.counters().bad_rx_request, GetParam() == Grants::kCopied ? 1u : 64u);
}

// A guest that rewrites its slots while they are read: whatever is read, nothing outside its pages is
// touched.
TEST_P(HostileVif, ARingThatChangesWhileItIsReadIsSurvived) {
  std::atomic<bool> stop{false};
  std::thread attacker([&] {
    auto* words = reinterpret_cast<uint32_t*>(memory.tx().entries);
    for (uint32_t n = 1; !stop.load(std::memory_order_relaxed); n = n * 1664525 + 1013904223)
      __atomic_store_n(words + n % (abi::kRingSlots * 3), n ^ (n >> 16), __ATOMIC_RELAXED);
  });
  uint32_t prod = 0;
  for (int i = 0; i < 2000 && !vif.broken(); ++i) {
    __atomic_store_n(&memory.tx().indices.req_prod, prod += 64, __ATOMIC_RELEASE);
    for (int k = 0; k < 64; ++k) {
      const size_t bytes = vif.receive(into);
      EXPECT_LE(bytes, kMaxFrameBytes);
    }
    vif.flush();
    if (memory.tx().indices.rsp_prod != prod) break;
  }
  stop = true;
  attacker.join();
  EXPECT_GT(vif.counters().bad_tx_request, 0u);
}

}  // namespace
}  // namespace synfluid::backend
