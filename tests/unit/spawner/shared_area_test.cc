#include "spawner/shared_area.h"

#include <cstring>
#include <memory>

#include <gtest/gtest.h>

namespace synfluid::spawner {
namespace {

constexpr uint32_t kBuffers = 8;

struct alignas(abi::kPageBytes) Area {
  std::byte bytes[size_t{abi::shared_pages(kBuffers)} * abi::kPageBytes];
};

class SharedArea : public ::testing::Test {
 protected:
  SharedArea() : area_(std::make_unique<Area>()) { std::memset(area_->bytes, 0xaa, sizeof(area_->bytes)); }

  template <class T>
  const T& page(uint32_t n) const {
    return *reinterpret_cast<const T*>(area_->bytes + size_t{n} * abi::kPageBytes);
  }

  std::unique_ptr<Area> area_;
};

TEST_F(SharedArea, CardSaysWhatTheGuestIs) {
  lay_out_shared_area(area_->bytes, {.domid = DomId(321),
                                     .generation = 7,
                                     .service = abi::ServiceKind::kFirewall,
                                     .event_port = 3,
                                     .buffers = kBuffers,
                                     .rx_posted = 5,
                                     .mac = {2, 4, 6, 8, 10, 12},
                                     .entropy = {11, 22, 33, 44},
                                     .card_config = "block_hosts ads.example.net\n"});
  const auto& card = page<abi::Card>(abi::kCardPage);
  EXPECT_EQ(card.fixed.magic, abi::kCardMagic);
  EXPECT_EQ(card.fixed.version, abi::kCardVersion);
  EXPECT_EQ(card.fixed.domid, 321u);
  EXPECT_EQ(card.fixed.generation, 7u);
  EXPECT_EQ(card.fixed.service, abi::ServiceKind::kFirewall);
  EXPECT_EQ(card.fixed.event_port, 3u);
  EXPECT_EQ(card.fixed.buffers, kBuffers);
  EXPECT_EQ(card.fixed.rx_posted, 5u);
  EXPECT_EQ(card.fixed.mac[5], 12);
  EXPECT_EQ(card.fixed.entropy[3], 44u);
  EXPECT_EQ(std::string_view(card.config, card.fixed.config_bytes), "block_hosts ads.example.net\n");
  EXPECT_EQ(card.guest.phase, abi::GuestPhase::kNotStarted);
  EXPECT_EQ(card.guest.death_note[0], '\0');
}

TEST_F(SharedArea, ReceiveBuffersArePostedAndOnlyTheHostAsksForADoorbell) {
  lay_out_shared_area(area_->bytes, {.domid = DomId(1), .buffers = kBuffers, .rx_posted = 5});
  const auto& rx = page<abi::NetRxRing>(abi::kRxRingPage);
  EXPECT_EQ(rx.indices.req_prod, 5u);
  EXPECT_EQ(rx.indices.rsp_prod, 0u);
  EXPECT_EQ(rx.indices.rsp_event, 0u);
  for (uint32_t i = 0; i < 5; ++i) {
    EXPECT_EQ(rx.entries[i].request.id, i);
    EXPECT_EQ(rx.entries[i].request.gref, abi::kFirstGrant + abi::kFirstBufferPage + i);
  }
  EXPECT_EQ(rx.entries[5].request.gref, 0u);
  const auto& tx = page<abi::NetTxRing>(abi::kTxRingPage);
  EXPECT_EQ(tx.indices.req_prod, 0u);
  EXPECT_EQ(tx.indices.req_event, 1u);
  EXPECT_EQ(tx.indices.rsp_event, 0u);
}

TEST_F(SharedArea, BuffersAreLeftAlone) {
  lay_out_shared_area(area_->bytes, {.domid = DomId(1), .buffers = kBuffers, .rx_posted = kBuffers});
  EXPECT_EQ(area_->bytes[abi::kFirstBufferPage * abi::kPageBytes], std::byte{0xaa});
}

TEST(CardConfig, IsOneLineAKey) {
  const auto lines = make_card_config({{"block_hosts", "a.example b.example"}, {"greeting", "hello"}});
  ASSERT_TRUE(lines);
  EXPECT_EQ(*lines, "block_hosts a.example b.example\ngreeting hello\n");
}

TEST(CardConfig, RefusesWhatCannotStandInALine) {
  EXPECT_FALSE(make_card_config({{"two words", "x"}}));
  EXPECT_FALSE(make_card_config({{"", "x"}}));
  EXPECT_FALSE(make_card_config({{"key", "two\nlines"}}));
  EXPECT_FALSE(make_card_config({{"key", std::string("zero\0byte", 9)}}));
}

TEST(CardConfig, RefusesMoreThanACardHolds) {
  const auto just = make_card_config({{"k", std::string(abi::kCardConfigBytes - 3, 'v')}});
  ASSERT_TRUE(just);
  EXPECT_EQ(just->size(), abi::kCardConfigBytes);
  EXPECT_FALSE(make_card_config({{"k", std::string(abi::kCardConfigBytes - 2, 'v')}}));
}

TEST(BuiltinService, KnowsItsOwnNamesAndLeavesPathsAlone) {
  EXPECT_EQ(builtin_service("builtin:responder").value(), abi::ServiceKind::kResponder);
  EXPECT_EQ(builtin_service("builtin:passthrough").value(), abi::ServiceKind::kPassthrough);
  EXPECT_EQ(builtin_service("builtin:firewall").value(), abi::ServiceKind::kFirewall);
  EXPECT_EQ(builtin_service("/srv/images/mini-os").value(), std::nullopt);
  const auto unknown = builtin_service("builtin:toaster");
  ASSERT_FALSE(unknown);
  EXPECT_NE(unknown.error().text().find("toaster"), std::string::npos);
}

TEST(GuestMac, IsLocalAndUnicast) {
  const auto mac = guest_mac(DomId(0x1234), 0x56789a);
  EXPECT_EQ(mac[0] & 3, 2);
  EXPECT_EQ(mac[5], 0x34);
  EXPECT_NE(mac, guest_mac(DomId(0x1234), 0x56789b));
}

}  // namespace
}  // namespace synfluid::spawner
