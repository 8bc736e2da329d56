// The xenbus handshake against front ends that keep the protocol, and against those that don't.
#include "backend/xen/xenbus_backend.h"

#include <map>
#include <optional>
#include <random>
#include <string>
#include <vector>

#include <gtest/gtest.h>

namespace synfluid::backend::xen {
namespace {

using Kind = XenbusChange::Kind;
using State = XenbusState;

class FakeDevice final : public XenbusDevice {
 public:
  Result<std::optional<std::string>> read_front(std::string_view key) override {
    if (store_is_down) return Error(ErrorCode::kUnavailable, "store");
    const auto found = front.find(std::string(key));
    if (found == front.end()) return std::optional<std::string>{};
    return std::optional(found->second);
  }
  Status write_state(State state) override {
    if (store_is_down) return Error(ErrorCode::kUnavailable, "store");
    states.push_back(state);
    return {};
  }
  Status connect(const FrontEndDetails& details) override {
    if (!grants_are_good) return Error(ErrorCode::kPermission, "rings are not granted");
    EXPECT_FALSE(connected);
    connected = details;
    ++connects;
    return {};
  }
  void disconnect() override {
    EXPECT_TRUE(connected);
    connected.reset();
  }

  std::map<std::string, std::string> front{{"state", "1"}};
  std::vector<State> states;
  std::optional<FrontEndDetails> connected;
  int connects = 0;
  bool grants_are_good = true;
  bool store_is_down = false;
};

const std::map<std::string, std::string> kLinux = {
    {"tx-ring-ref", "768"},     {"rx-ring-ref", "769"}, {"event-channel", "9"},     {"request-rx-copy", "1"},
    {"feature-rx-notify", "1"}, {"feature-sg", "1"},    {"feature-gso-tcpv4", "1"}, {"state", "4"}};

class XenbusBackendTest : public ::testing::Test {
 protected:
  Kind front_says(State state) {
    device.front["state"] = std::to_string(static_cast<int>(state));
    return changed();
  }
  Kind changed() {
    auto change = backend.front_changed();
    EXPECT_TRUE(change);
    reason = change->reason;
    return change->kind;
  }
  Kind connect() {
    device.front = kLinux;
    return changed();
  }

  FakeDevice device;
  XenbusBackend backend{device};
  std::string reason;
};

TEST_F(XenbusBackendTest, ALinuxFrontEndConnects) {
  EXPECT_EQ(changed(), Kind::kNone);
  EXPECT_EQ(connect(), Kind::kConnected);
  ASSERT_TRUE(device.connected);
  EXPECT_EQ(device.connected->tx_ring, GrantRef{768});
  EXPECT_EQ(device.connected->rx_ring, GrantRef{769});
  EXPECT_EQ(device.connected->tx_port, EventPort{9});
  EXPECT_EQ(device.connected->rx_port, EventPort{9});
  EXPECT_TRUE(device.connected->receives_chains);
  EXPECT_FALSE(device.connected->persistent);
  EXPECT_EQ(device.states, std::vector{State::kConnected});
}

TEST_F(XenbusBackendTest, AControlRingIsReadWithItsChannel) {
  XenbusBackend offering(device, {.control_ring = true});
  device.front = kLinux;
  device.front["ctrl-ring-ref"] = "770";
  device.front["event-channel-ctrl"] = "12";
  EXPECT_EQ(offering.front_changed()->kind, Kind::kConnected);
  ASSERT_TRUE(device.connected->control);
  EXPECT_EQ(device.connected->control->ring, GrantRef{770});
  EXPECT_EQ(device.connected->control->port, EventPort{12});
}

TEST_F(XenbusBackendTest, AControlRingWithoutItsChannelIsRefused) {
  XenbusBackend offering(device, {.control_ring = true});
  device.front = kLinux;
  device.front["ctrl-ring-ref"] = "770";
  const auto change = offering.front_changed();
  EXPECT_EQ(change->kind, Kind::kRefused);
  EXPECT_EQ(change->reason, "front end: 'event-channel-ctrl' is missing");
}

TEST_F(XenbusBackendTest, AFrontEndWithoutAControlRingConnectsWhereOneIsOffered) {
  XenbusBackend offering(device, {.control_ring = true});
  device.front = kLinux;
  EXPECT_EQ(offering.front_changed()->kind, Kind::kConnected);
  EXPECT_FALSE(device.connected->control);
}

TEST_F(XenbusBackendTest, AControlRingThatWasNotOfferedIsNotLookedAt) {
  device.front = kLinux;
  device.front["ctrl-ring-ref"] = "nonsense";
  EXPECT_EQ(changed(), Kind::kConnected);
  EXPECT_FALSE(device.connected->control);
}

TEST_F(XenbusBackendTest, SplitEventChannelsAndPersistentGrantsAreUnderstood) {
  device.front = kLinux;
  device.front.erase("event-channel");
  device.front["event-channel-tx"] = "11";
  device.front["event-channel-rx"] = "12";
  device.front["feature-persistent"] = "1";
  device.front.erase("feature-sg");
  EXPECT_EQ(changed(), Kind::kConnected);
  EXPECT_EQ(device.connected->tx_port, EventPort{11});
  EXPECT_EQ(device.connected->rx_port, EventPort{12});
  EXPECT_TRUE(device.connected->persistent);
  EXPECT_FALSE(device.connected->receives_chains);
}

TEST_F(XenbusBackendTest, TheSameStateAgainChangesNothing) {
  connect();
  for (int i = 0; i < 3; ++i) EXPECT_EQ(changed(), Kind::kNone);
  EXPECT_EQ(device.connects, 1);
  EXPECT_EQ(device.states.size(), 1u);
}

TEST_F(XenbusBackendTest, AFrontEndLeavesAndComesBack) {
  connect();
  EXPECT_EQ(front_says(State::kClosing), Kind::kClosed);
  EXPECT_FALSE(device.connected);
  EXPECT_EQ(front_says(State::kClosed), Kind::kNone);
  EXPECT_EQ(front_says(State::kInitialising), Kind::kNone);
  EXPECT_EQ(connect(), Kind::kConnected);
  EXPECT_EQ(device.states, (std::vector{State::kConnected, State::kClosing, State::kClosed, State::kInitWait,
                                        State::kConnected}));
}

TEST_F(XenbusBackendTest, AFrontEndThatStartsAnewWithoutAWordLosesItsOldVif) {
  connect();
  EXPECT_EQ(front_says(State::kInitialising), Kind::kClosed);
  EXPECT_FALSE(device.connected);
  EXPECT_EQ(connect(), Kind::kConnected);
}

TEST_F(XenbusBackendTest, ADirectoryThatIsGoneClosesTheVif) {
  connect();
  device.front.clear();
  EXPECT_EQ(changed(), Kind::kClosed);
  EXPECT_EQ(backend.state(), State::kClosed);
}

TEST_F(XenbusBackendTest, AClosedVifDoesNotConnectWithoutANewStart) {
  connect();
  front_says(State::kClosed);
  EXPECT_EQ(connect(), Kind::kNone);
  EXPECT_FALSE(device.connected);
}

TEST_F(XenbusBackendTest, ReconnectionsAreCountedAndEnd) {
  int connects = 0;
  for (int i = 0; i < 100; ++i) {
    connects += connect() == Kind::kConnected ? 1 : 0;
    front_says(State::kClosed);
    front_says(State::kInitialising);
  }
  EXPECT_EQ(connects, kMaxConnects);
  EXPECT_FALSE(device.connected);
  EXPECT_EQ(backend.state(), State::kClosed);
}

struct Row {
  const char* key;
  std::optional<std::string> value;
};

class BadFrontEnd : public XenbusBackendTest, public ::testing::WithParamInterface<Row> {};
INSTANTIATE_TEST_SUITE_P(
    Nodes, BadFrontEnd,
    ::testing::Values(Row{"tx-ring-ref", std::nullopt}, Row{"rx-ring-ref", std::nullopt},
                      Row{"event-channel", std::nullopt}, Row{"request-rx-copy", std::nullopt},
                      Row{"request-rx-copy", "0"}, Row{"tx-ring-ref", ""}, Row{"tx-ring-ref", "-1"},
                      Row{"tx-ring-ref", "12x"}, Row{"tx-ring-ref", " 12"}, Row{"rx-ring-ref", "4294967296"},
                      Row{"event-channel", "99999999999999999999"}, Row{"feature-sg", "yes"},
                      Row{"multi-queue-num-queues", "4"}, Row{"tx-ring-ref", std::string("7\0", 2)},
                      Row{"feature-persistent", std::string(4096, '1')}));

TEST_P(BadFrontEnd, IsRefusedWithAReasonAndMayStartAnew) {
  device.front = kLinux;
  device.front.erase(GetParam().key);
  if (GetParam().value) device.front[GetParam().key] = *GetParam().value;
  EXPECT_EQ(changed(), Kind::kRefused);
  EXPECT_FALSE(reason.empty());
  EXPECT_LT(reason.size(), 200u);
  EXPECT_FALSE(device.connected);
  EXPECT_EQ(device.states, std::vector{State::kClosing});
  EXPECT_EQ(changed(), Kind::kNone);
  front_says(State::kInitialising);
  EXPECT_EQ(connect(), Kind::kConnected);
}

TEST_F(XenbusBackendTest, RingsThatAreNotGrantedAreRefused) {
  device.grants_are_good = false;
  EXPECT_EQ(connect(), Kind::kRefused);
  EXPECT_EQ(reason, "rings are not granted");
}

TEST_F(XenbusBackendTest, NonsenseInTheStateIsAClosedFrontEnd) {
  for (const char* state : {"", "9", "-4", "four", "4294967300"}) {
    FakeDevice other;
    XenbusBackend fresh(other);
    other.front = kLinux;
    other.front["state"] = state;
    EXPECT_EQ(fresh.front_changed()->kind, Kind::kNone) << state;
    EXPECT_EQ(fresh.state(), State::kClosed) << state;
  }
}

TEST_F(XenbusBackendTest, AStoreThatIsDownIsAnError) {
  device.store_is_down = true;
  const auto change = backend.front_changed();
  ASSERT_FALSE(change);
  EXPECT_EQ(change.error().code(), ErrorCode::kUnavailable);
}

// Whatever a front end writes in whatever order: connect and disconnect alternate, and a live vif is
// Connected.
TEST(XenbusBackendProperty, AnyOrderOfStatesKeepsConnectAndDisconnectPaired) {
  const uint64_t seed = std::random_device{}();
  SCOPED_TRACE(::testing::Message() << "seed " << seed);
  std::mt19937_64 random(seed);
  for (int run = 0; run < 200; ++run) {
    FakeDevice device;
    XenbusBackend backend(device);
    for (int i = 0; i < 60; ++i) {
      device.front = kLinux;
      device.front["state"] = std::to_string(random() % 10);
      if (random() % 8 == 0) device.front.erase("tx-ring-ref");
      ASSERT_TRUE(backend.front_changed());
      ASSERT_EQ(device.connected.has_value(), backend.state() == State::kConnected);
    }
    ASSERT_LE(device.connects, kMaxConnects);
  }
}

}  // namespace
}  // namespace synfluid::backend::xen
