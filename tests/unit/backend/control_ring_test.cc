// The control ring of a vif: static grants by the protocol, and front ends that break it.
#include "backend/control_ring.h"

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <initializer_list>
#include <memory>
#include <vector>

#include <gtest/gtest.h>

#include "backend/vif.h"
#include "tests/unit/backend/fake_control.h"

namespace synfluid::backend {
namespace {

using testing::ControlledLink;
using testing::FakeControl;
using testing::Frame;
using testing::FrontEnd;
using testing::Grants;
using testing::GuestMemory;
using testing::LinkLog;

constexpr uint32_t kBuffers = 64;
constexpr uint32_t kPlaces = 40;
/// Where a list is written; never used for frames here.
constexpr uint32_t kListBuffer = 63;
/// More calls than any request takes.
constexpr int kPatience = 64;

uint32_t gref(uint32_t buffer) {
  return GuestMemory::gref_of(buffer);
}

std::vector<abi::NetGref> list_of(uint32_t first, uint32_t count, uint16_t flags = 0) {
  std::vector<abi::NetGref> list;
  for (uint32_t i = 0; i < count; ++i) list.push_back({gref(first + i), flags, 0xbeef});
  return list;
}

Frame pattern(size_t bytes, uint8_t seed = 1) {
  Frame frame(bytes);
  for (size_t i = 0; i < bytes; ++i) frame[i] = static_cast<std::byte>(i * 7 + seed);
  return frame;
}

class ControlRingTest : public ::testing::Test {
 protected:
  abi::NetCtrlResponse ask(uint16_t type, uint32_t queue = 0, uint32_t list = 0, uint32_t size = 0) {
    post(type, queue, list, size);
    for (int i = 0; i < kPatience && !is_answered(); ++i) vif.flush();
    EXPECT_TRUE(is_answered());
    const abi::NetCtrlResponse response =
        control.shared.entries[(asked_ - 1) % abi::NetCtrlRing::kSlots].response;
    EXPECT_EQ(response.id, static_cast<uint16_t>(asked_ + 499));
    EXPECT_EQ(response.type, type);
    return response;
  }
  void post(uint16_t type, uint32_t queue, uint32_t list, uint32_t size) {
    control.shared.entries[asked_ % abi::NetCtrlRing::kSlots].request = {
        static_cast<uint16_t>(asked_ + 500), type, {queue, list, size}};
    control.shared.indices.req_prod = ++asked_;
  }
  bool is_answered() const { return control.shared.indices.rsp_prod == asked_; }
  abi::NetCtrlResponse ask_with(uint16_t type, const std::vector<abi::NetGref>& list) {
    write(list);
    return ask(type, 0, gref(kListBuffer), static_cast<uint32_t>(list.size()));
  }
  void write(const std::vector<abi::NetGref>& list) {
    std::memcpy(memory.buffer(kListBuffer), list.data(), list.size() * sizeof(list[0]));
  }
  uint32_t add(const std::vector<abi::NetGref>& list) {
    return ask_with(abi::kCtrlAddGrefMapping, list).status;
  }
  /// Of entry `i` of the list, as the guest finds it afterwards.
  uint16_t status_of(size_t i) {
    abi::NetGref grant;
    std::memcpy(&grant, memory.buffer(kListBuffer) + i * sizeof(grant), sizeof(grant));
    return grant.status;
  }
  Frame receive() {
    const size_t bytes = vif.receive(into);
    return {into.begin(), into.begin() + static_cast<ptrdiff_t>(bytes)};
  }

  GuestMemory memory{kBuffers};
  FakeControl control{memory, kPlaces};
  std::shared_ptr<LinkLog> log = std::make_shared<LinkLog>();
  FrontEnd guest{memory};
  Vif vif{std::make_unique<ControlledLink>(memory, Grants::kCopied, log, control)};
  Frame into = Frame(kMaxFrameBytes);
  uint32_t asked_ = 0;
};

TEST_F(ControlRingTest, SaysHowManyPagesMayBeMapped) {
  const auto response = ask(abi::kCtrlGetGrefMappingSize);
  EXPECT_EQ(response.status, abi::kCtrlStatusSuccess);
  EXPECT_EQ(response.data, kPlaces);
}

TEST_F(ControlRingTest, KnowsOneQueueAndNoHashes) {
  for (const uint16_t type :
       {abi::kCtrlGetGrefMappingSize, abi::kCtrlAddGrefMapping, abi::kCtrlDelGrefMapping}) {
    const auto response = ask(type, 1, gref(kListBuffer), 1);
    EXPECT_EQ(response.status, abi::kCtrlStatusInvalidParameter);
    EXPECT_EQ(response.data, 0u);
  }
  for (const uint16_t type : std::initializer_list<uint16_t>{0, 1, 2, 3, 4, 5, 6, 7, 11, 0xffff})
    EXPECT_EQ(ask(type).status, abi::kCtrlStatusNotSupported) << type;
}

TEST_F(ControlRingTest, MappedPagesAreReachedInPlace) {
  ASSERT_EQ(add(list_of(0, 16)), abi::kCtrlStatusSuccess);
  const int copies = log->copy_calls;
  guest.post(4);
  const Frame down = pattern(9000), up = pattern(1500, 9);
  ASSERT_TRUE(vif.send(down));
  vif.flush();
  EXPECT_EQ(guest.receive(), down);
  guest.transmit(up);
  guest.transmit_pieces(down, std::vector<size_t>{4000, 4000, 1000});
  EXPECT_EQ(receive(), up);
  EXPECT_EQ(receive(), down);
  EXPECT_EQ(receive(), Frame{});
  vif.flush();
  EXPECT_EQ(guest.tx_statuses(), std::vector<int16_t>(4, abi::kRspOkay));
  EXPECT_EQ(log->copy_calls, copies) << "a hypercall on the path of a packet";
}

TEST_F(ControlRingTest, FramesInMappedAndOtherPagesKeepTheirOrder) {
  // Of the first five, and of the five behind them.
  ASSERT_EQ(add({{gref(1), 0, 0}, {gref(3), 0, 0}}), abi::kCtrlStatusSuccess);
  guest.post(5);
  std::vector<Frame> frames;
  for (uint8_t i = 0; i < 5; ++i) {
    frames.push_back(pattern(100 + i, i));
    ASSERT_TRUE(vif.send(frames.back()));
  }
  vif.flush();
  for (const Frame& frame : frames) EXPECT_EQ(guest.receive(), frame);
  ASSERT_EQ(add(list_of(6, 1)), abi::kCtrlStatusSuccess);
  for (const Frame& frame : frames) guest.transmit(frame);  // from buffers 5 to 9
  for (const Frame& frame : frames) EXPECT_EQ(receive(), frame);
  vif.flush();
  EXPECT_EQ(guest.tx_statuses(), std::vector<int16_t>(5, abi::kRspOkay));
}

TEST_F(ControlRingTest, AChainOfMappedAndOtherPagesArrivesWhole) {
  ASSERT_EQ(add({{gref(1), 0, 0}, {gref(5), 0, 0}}), abi::kCtrlStatusSuccess);
  guest.post(3);
  const Frame down = pattern(9000), up = pattern(3000, 3);
  ASSERT_TRUE(vif.send(down));
  vif.flush();
  EXPECT_EQ(guest.receive(), down);
  guest.transmit_pieces(up, std::vector<size_t>{1000, 1000, 1000});
  EXPECT_EQ(receive(), up);
}

TEST_F(ControlRingTest, PagesAreUsedAgainAndAgainWithoutAHypercall) {
  ASSERT_EQ(add(list_of(0, 8)), abi::kCtrlStatusSuccess);
  const int copies = log->copy_calls;
  for (uint8_t round = 0; round < 100; ++round) {
    const Frame frame = pattern(1000, round);
    memory.rx().entries[round % abi::kRingSlots].request = {round, 0, gref(round % 4)};
    memory.rx().indices.req_prod = round + 1u;
    memory.tx().entries[round % abi::kRingSlots].request = {gref(4 + round % 4), 0, 0, round, 1000};
    std::memcpy(memory.buffer(4 + round % 4), frame.data(), frame.size());
    memory.tx().indices.req_prod = round + 1u;
    ASSERT_TRUE(vif.send(frame));
    ASSERT_EQ(receive(), frame);
    vif.flush();
    ASSERT_EQ(std::memcmp(memory.buffer(round % 4), frame.data(), frame.size()), 0);
  }
  EXPECT_EQ(log->copy_calls, copies);
}

TEST_F(ControlRingTest, ALongListIsWorkedThroughBetweenFrames) {
  write(list_of(0, kPlaces));
  post(abi::kCtrlAddGrefMapping, 0, gref(kListBuffer), kPlaces);
  vif.flush();
  EXPECT_EQ(control.mapped.size(), 32u);
  EXPECT_FALSE(is_answered());
  EXPECT_TRUE(vif.arm()) << "the vif may not fall asleep";
  // What the list becomes meanwhile is of no interest.
  write(std::vector<abi::NetGref>(kPlaces, {gref(kBuffers), 0xffff, 0}));
  const Frame frame = pattern(99);
  guest.transmit(frame);
  EXPECT_EQ(receive(), frame);
  EXPECT_FALSE(is_answered());
  vif.flush();
  EXPECT_TRUE(is_answered());
  EXPECT_EQ(control.shared.entries[0].response.status, abi::kCtrlStatusSuccess);
  EXPECT_EQ(control.mapped.size(), kPlaces);
  EXPECT_FALSE(vif.arm());
}

TEST_F(ControlRingTest, ALongListThatFailsAtItsEndIsUndone) {
  auto list = list_of(0, kPlaces);
  list.back().gref = gref(kBuffers);
  EXPECT_EQ(add(list), abi::kCtrlStatusInvalidParameter);
  EXPECT_TRUE(control.mapped.empty());
  EXPECT_EQ(add(list_of(0, kPlaces)), abi::kCtrlStatusSuccess);
  EXPECT_EQ(control.mapped.size(), kPlaces);
}

TEST_F(ControlRingTest, AListIsMappedWholeOrNotAtAll) {
  ASSERT_EQ(add(list_of(0, 3)), abi::kCtrlStatusSuccess);
  const auto not_added = [this](std::vector<abi::NetGref> list) {
    EXPECT_EQ(add(list), abi::kCtrlStatusInvalidParameter);
    EXPECT_EQ(control.mapped.size(), 3u);
  };
  not_added({{gref(10), 0, 0}, {gref(kBuffers + 5), 0, 0}, {gref(11), 0, 0}});  // not granted
  not_added({{gref(10), 0, 0}, {gref(2), 0, 0}});                               // there already
  not_added({{gref(10), 0, 0}, {gref(10), 0, 0}});                              // twice
  not_added({{gref(10), 0, 0}, {gref(11), 4, 0}});                              // a flag we do not know
  not_added(list_of(10, kPlaces - 2));                                          // one more than there is room
  EXPECT_EQ(add(list_of(10, kPlaces - 3)), abi::kCtrlStatusSuccess);
}

TEST_F(ControlRingTest, RemovalTellsOfEachEntry) {
  ASSERT_EQ(add(list_of(0, 4)), abi::kCtrlStatusSuccess);
  const auto response = ask_with(abi::kCtrlDelGrefMapping,
                                 {{gref(1), 0, 7}, {gref(9), 0, 7}, {gref(3), 0, 7}, {gref(1), 0, 7}});
  EXPECT_EQ(response.status, abi::kCtrlStatusSuccess);
  EXPECT_EQ(response.data, 2u);
  EXPECT_EQ(status_of(0), abi::kCtrlStatusSuccess);
  EXPECT_EQ(status_of(1), abi::kCtrlStatusInvalidParameter);
  EXPECT_EQ(status_of(2), abi::kCtrlStatusSuccess);
  EXPECT_EQ(status_of(3), abi::kCtrlStatusInvalidParameter);
  EXPECT_EQ(control.mapped.size(), 2u);
  EXPECT_EQ(vif.counters().bad_control_request, 0u);
  // What is no longer mapped is copied.
  guest.post(4);
  const Frame frame = pattern(700);
  for (int i = 0; i < 4; ++i) ASSERT_TRUE(vif.send(frame));
  vif.flush();
  for (int i = 0; i < 4; ++i) EXPECT_EQ(guest.receive(), frame);
}

TEST_F(ControlRingTest, AReadOnlyPageIsReadInPlaceAndNeverWritten) {
  ASSERT_EQ(add(list_of(0, 2, abi::kGrefReadOnly)), abi::kCtrlStatusSuccess);
  const int copies = log->copy_calls;
  const Frame frame = pattern(200);
  guest.transmit(frame);
  EXPECT_EQ(receive(), frame);
  EXPECT_EQ(log->copy_calls, copies);
  guest.post(1);  // buffer 1 is for reading: only a copy may try, and Xen judges it
  control.read_only.insert(gref(1));
  ASSERT_TRUE(vif.send(frame));
  vif.flush();
  EXPECT_EQ(log->copy_calls, copies + 1);
  EXPECT_EQ(memory.rx().entries[0].response.status, abi::kRspError);
}

TEST_F(ControlRingTest, ARemovalThatCannotBeToldSaysHowManyItWas) {
  ASSERT_EQ(add(list_of(0, 4)), abi::kCtrlStatusSuccess);
  control.read_only.insert(gref(kListBuffer));
  const auto response = ask_with(abi::kCtrlDelGrefMapping, list_of(0, 3));
  EXPECT_EQ(response.status, abi::kCtrlStatusInvalidParameter);
  EXPECT_EQ(response.data, 3u);
  EXPECT_EQ(control.mapped.size(), 1u);
}

TEST_F(ControlRingTest, AFrameThatWasSentSurvivesTheRemovalOfItsPage) {
  ASSERT_EQ(add(list_of(0, 1)), abi::kCtrlStatusSuccess);
  guest.post(1);
  const Frame frame = pattern(500);
  ASSERT_TRUE(vif.send(frame));
  EXPECT_EQ(ask_with(abi::kCtrlDelGrefMapping, list_of(0, 1)).data, 1u);
  vif.flush();
  EXPECT_EQ(guest.receive(), frame);
}

TEST_F(ControlRingTest, AnswersAreRungForWhenTheyAreWanted) {
  ask(abi::kCtrlGetGrefMappingSize);
  EXPECT_EQ(control.notifications, 1);
  ask(abi::kCtrlGetGrefMappingSize);
  EXPECT_EQ(control.notifications, 1) << "the front end did not ask";
  control.shared.indices.rsp_event = 3;
  ask(abi::kCtrlGetGrefMappingSize);
  EXPECT_EQ(control.notifications, 2);
}

TEST_F(ControlRingTest, ARequestKeepsTheVifFromFallingAsleep) {
  EXPECT_FALSE(vif.arm());
  EXPECT_EQ(control.shared.indices.req_event, 1u);
  control.shared.entries[0].request = {1, abi::kCtrlGetGrefMappingSize, {0, 0, 0}};
  control.shared.indices.req_prod = 1;
  EXPECT_TRUE(vif.arm());
  vif.flush();
  EXPECT_FALSE(vif.arm());
}

TEST_F(ControlRingTest, ListsThatCannotBeReadAreRefused) {
  for (const uint16_t type : {abi::kCtrlAddGrefMapping, abi::kCtrlDelGrefMapping}) {
    EXPECT_EQ(ask(type, 0, gref(kBuffers), 1).status, abi::kCtrlStatusInvalidParameter) << "not granted";
    EXPECT_EQ(ask(type, 0, gref(kListBuffer), 0).status, abi::kCtrlStatusInvalidParameter) << "empty";
    for (const uint32_t size : {abi::kGrefsPerPage + 1, 0x2000'0001u, ~0u})
      EXPECT_EQ(ask(type, 0, gref(kListBuffer), size).status, abi::kCtrlStatusInvalidParameter) << size;
  }
  EXPECT_EQ(control.maps, 0);
  EXPECT_EQ(vif.counters().bad_control_request, 10u);
}

TEST_F(ControlRingTest, AnImpossibleIndexBreaksTheVif) {
  control.shared.indices.req_prod = abi::NetCtrlRing::kSlots + 1;
  vif.flush();
  EXPECT_TRUE(vif.broken());
  EXPECT_EQ(vif.reason(), "control ring: impossible producer index");
}

TEST_F(ControlRingTest, MappingAndUnmappingWithoutEndIsCutOff) {
  int refused = 0;
  for (int i = 0; i < 100; ++i) {
    if (add(list_of(0, kPlaces)) != abi::kCtrlStatusSuccess) ++refused;
    ask_with(abi::kCtrlDelGrefMapping, list_of(0, kPlaces));
  }
  EXPECT_EQ(refused, 92);
  EXPECT_EQ(control.maps, static_cast<int>(8 * kPlaces));
  EXPECT_TRUE(control.mapped.empty());
  EXPECT_EQ(control.misuses, 0);
}

TEST_F(ControlRingTest, ABrokenVifServesNoMore) {
  memory.tx().indices.req_prod = abi::kRingSlots + 1;
  EXPECT_EQ(vif.receive(into), 0u);
  ASSERT_TRUE(vif.broken());
  post(abi::kCtrlGetGrefMappingSize, 0, 0, 0);
  vif.flush();
  EXPECT_FALSE(is_answered());
  EXPECT_FALSE(vif.arm());
}

TEST(ControlRing, OfAPersistentFrontEndSparesItsPagesTheSecondMap) {
  GuestMemory memory(8);
  FakeControl control(memory, 8);
  const auto log = std::make_shared<LinkLog>();
  FrontEnd guest(memory);
  {
    Vif vif(std::make_unique<ControlledLink>(memory, Grants::kPersistent, log, control));
    const std::vector<abi::NetGref> list{{gref(0), 0, 0}, {gref(1), 0, 0}};
    std::memcpy(memory.buffer(7), list.data(), list.size() * sizeof(list[0]));
    control.shared.entries[0].request = {1, abi::kCtrlAddGrefMapping, {0, gref(7), 2}};
    control.shared.indices.req_prod = 1;
    Frame into(kMaxFrameBytes);
    vif.flush();
    ASSERT_EQ(control.shared.entries[0].response.status, abi::kCtrlStatusSuccess);
    guest.post(1);
    ASSERT_TRUE(vif.send(pattern(100)));
    guest.transmit(pattern(100));
    EXPECT_EQ(vif.receive(into), 100u);
    EXPECT_EQ(log->maps, 0);
    guest.transmit(pattern(100));
    EXPECT_EQ(vif.receive(into), 100u);
    EXPECT_EQ(log->maps, 1) << "one that is not in the table";
  }
  EXPECT_FALSE(log->alive);
}

TEST_F(ControlRingTest, NothingButNonsenseBreaksTheVif) {
  for (int i = 0; i < 4096 && !vif.broken(); ++i) ask(0xffff);
  EXPECT_TRUE(vif.broken());
  EXPECT_EQ(vif.reason(), "nothing but bad requests");
}

}  // namespace
}  // namespace synfluid::backend
