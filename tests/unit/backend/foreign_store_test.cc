// The store nodes of a foreign guest: how many, whose, and that they come and go as a whole.
#include "spawner/xen/foreign_store.h"

#include <string>

#include <gtest/gtest.h>

#include "tests/unit/backend/fake_control_store.h"

namespace synfluid::spawner::xen {
namespace {

using testing::FakeControlStore;

constexpr DomId kGuest{7};
constexpr DomId kOther{8};
const ForeignNodes kNodes = {.domid = kGuest, .name = "web-7", .mac = {0x02, 0x53, 0x46, 0, 0, 7}};
const auto kNobody = [](DomId) { return false; };

TEST(ForeignStore, AGuestWithOneVifHasSeventeenNodesFromOneTransaction) {
  FakeControlStore store;
  ASSERT_TRUE(write_nodes(store, kNodes));
  EXPECT_EQ(store.transactions, 1);
  const size_t count =
      store.count_below(guest_path(kGuest)) + store.count_below("/local/domain/0/synfluid/vif/7");
  EXPECT_EQ(count, kMaxNodesPerGuest);
}

TEST(ForeignStore, AControlRingIsOfferedByOneNodeMore) {
  FakeControlStore store;
  ForeignNodes nodes = kNodes;
  nodes.offer.control_ring = true;
  ASSERT_TRUE(write_nodes(store, nodes));
  EXPECT_EQ(store.read(back_path(kGuest) + "/feature-ctrl-ring").value(), "1");
  const size_t count =
      store.count_below(guest_path(kGuest)) + store.count_below("/local/domain/0/synfluid/vif/7");
  EXPECT_EQ(count, kMaxNodesPerGuest + 1);
}

TEST(ForeignStore, TheVifsEndsPointAtEachOther) {
  FakeControlStore store;
  ASSERT_TRUE(write_nodes(store, kNodes));
  EXPECT_EQ(store.read(front_path(kGuest) + "/backend").value(), back_path(kGuest));
  EXPECT_EQ(store.read(front_path(kGuest) + "/backend-id").value(), "0");
  EXPECT_EQ(store.read(front_path(kGuest) + "/mac").value(), "02:53:46:00:00:07");
  EXPECT_EQ(store.read(front_path(kGuest) + "/state").value(), "1");
  EXPECT_EQ(store.read(back_path(kGuest) + "/state").value(), "2");
  EXPECT_EQ(store.read(back_path(kGuest) + "/feature-rx-copy").value(), "1");
}

TEST(ForeignStore, TheGuestReadsWhatItNeedsAndWritesOnlyItsEnd) {
  FakeControlStore store;
  ASSERT_TRUE(write_nodes(store, kNodes));
  for (const auto& [path, node] : store.nodes()) {
    const bool is_guests =
        path.starts_with(front_path(kGuest)) || path == guest_path(kGuest) + "/control/shutdown";
    EXPECT_EQ(store.may(kGuest, path, StoreAccess::kWrite), is_guests) << path;
    const bool is_for_it = path.starts_with(guest_path(kGuest)) || path.starts_with(back_path(kGuest));
    EXPECT_EQ(store.may(kGuest, path, StoreAccess::kRead), is_for_it) << path;
    EXPECT_FALSE(store.may(kOther, path, StoreAccess::kRead)) << path;
    EXPECT_FALSE(store.may(kOther, path, StoreAccess::kWrite)) << path;
  }
}

TEST(ForeignStore, RemovalLeavesNothingOfTheGuest) {
  FakeControlStore store;
  ASSERT_TRUE(write_nodes(store, kNodes));
  ASSERT_TRUE(write_nodes(store, {.domid = kOther, .name = "web-8", .mac = {}}));
  ASSERT_TRUE(remove_nodes(store, kGuest));
  EXPECT_EQ(store.count_below(guest_path(kGuest)), 0u);
  EXPECT_EQ(store.count_below("/local/domain/0/synfluid/vif/7"), 0u);
  EXPECT_EQ(store.count_below(front_path(kOther)), 5u);
  EXPECT_TRUE(remove_nodes(store, kGuest));
}

TEST(ForeignStore, WhatAnOlderGuestOfTheSameIdLeftIsGone) {
  FakeControlStore store;
  ASSERT_TRUE(store.write(guest_path(kGuest) + "/device/vif/0/event-channel", "3"));
  ASSERT_TRUE(write_nodes(store, kNodes));
  EXPECT_FALSE(store.read(front_path(kGuest) + "/event-channel"));
}

TEST(ForeignStore, AFailureAtAnyStepLeavesNothing) {
  int steps = 0;
  for (;; ++steps) {
    FakeControlStore store;
    store.fail_at_step = steps;
    const Status written = write_nodes(store, kNodes);
    if (written) break;
    EXPECT_EQ(written.error().code(), ErrorCode::kExhausted);
    EXPECT_TRUE(store.nodes().empty()) << "step " << steps;
    EXPECT_NE(written.error().text().find("guest 7"), std::string::npos);
  }
  EXPECT_GT(steps, 15);
}

TEST(ForeignStore, OvertakenTransactionsAreTriedAgainAndNotForever) {
  FakeControlStore store;
  store.overtaken = kStoreAttempts - 1;
  EXPECT_TRUE(write_nodes(store, kNodes));
  store.overtaken = kStoreAttempts;
  const Status written = write_nodes(store, kNodes);
  ASSERT_FALSE(written);
  EXPECT_EQ(written.error().code(), ErrorCode::kConflict);
}

TEST(ForeignStore, ASweepTakesAwayWhatFormerRunsLeftButNobodyElsesNodes) {
  FakeControlStore store;
  EXPECT_EQ(sweep_nodes(store, kNobody).value(), 0u);
  ASSERT_TRUE(write_nodes(store, kNodes));
  ASSERT_TRUE(write_nodes(store, {.domid = kOther, .name = "web-8", .mac = {}}));
  EXPECT_EQ(sweep_nodes(store, [](DomId id) { return id == kOther; }).value(), 2u);
  EXPECT_EQ(store.count_below(guest_path(kGuest)), 0u);
  EXPECT_GT(store.count_below(guest_path(kOther)), 0u);
  EXPECT_EQ(store.count_below("/local/domain/0/synfluid/vif"), 1u);
}

}  // namespace
}  // namespace synfluid::spawner::xen
