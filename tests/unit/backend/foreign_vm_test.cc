// A foreign guest's life on fakes of Xen and the store: made whole or not at all, wired by its front end,
// gone without a trace.
#include "spawner/xen/foreign_vm.h"

#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

#include "spawner/xen/foreign_store.h"
#include "tests/unit/backend/fake_control_store.h"
#include "tests/unit/backend/front_end.h"
#include "tests/unit/spawner/fake_xen_calls.h"

namespace synfluid::spawner::xen {
namespace {

using backend::testing::FakeLink;
using backend::testing::Grants;
using backend::testing::GuestMemory;
using backend::testing::LinkLog;
using backend::xen::ForeignLinkConfig;
using testing::FakeControlStore;

constexpr DomId kGuest{7};
constexpr backend::DoorbellToken kKey = 42;

class FakeConsole final : public GuestConsole {
 public:
  explicit FakeConsole(int& alive) : alive_(alive) { ++alive_; }
  ~FakeConsole() override { --alive_; }
  void read() override { tail_ += "Kernel panic - not syncing\n"; }
  const std::string& tail() const override { return tail_; }

 private:
  int& alive_;
  std::string tail_;
};

class ForeignVmTest : public ::testing::Test {
 protected:
  Result<std::unique_ptr<ForeignVm>> make() {
    EXPECT_TRUE(xen.create_domain(kGuest, {}));
    const ForeignHost host{
        .store = store,
        .xen = xen,
        .connect = [this](WorkerId worker,
                          const ForeignLinkConfig& config) { return connect(worker, config); },
        .forget = [this](backend::DoorbellToken key) { forgotten.push_back(key); },
        .offer = offer};
    ForeignDomain domain{.domain = toolstack::OwnedDomain(xen, kGuest),
                         .store_frame = 0x1234,
                         .store_port = EventPort{1},
                         .console_port = EventPort{2}};
    return ForeignVm::create(host, std::move(domain), std::make_unique<FakeConsole>(consoles),
                             {.name = "web-7", .generation = 3, .worker = WorkerId{1}, .doorbell = 9}, kKey);
  }
  Result<std::unique_ptr<backend::GuestLink>> connect(WorkerId worker, const ForeignLinkConfig& config) {
    if (!rings_are_granted) return Error(ErrorCode::kPermission, "its rings are not granted");
    connections.emplace_back(worker, config);
    return std::unique_ptr<backend::GuestLink>(std::make_unique<FakeLink>(memory, Grants::kCopied, link));
  }
  void expect_nothing_left() {
    EXPECT_TRUE(xen.domains.empty());
    EXPECT_EQ(consoles, 0);
    EXPECT_EQ(store.count_below(guest_path(kGuest)), 0u);
    EXPECT_EQ(store.count_below("/local/domain/0/synfluid/vif/7"), 0u);
    EXPECT_EQ(store.watches(), 0u);
    EXPECT_TRUE(store.introduced.empty());
  }

  void front_writes(const std::string& key, const std::string& value) {
    ASSERT_TRUE(store.write(front_path(kGuest) + "/" + key, value));
  }
  void front_connects() {
    front_writes("tx-ring-ref", "768");
    front_writes("rx-ring-ref", "769");
    front_writes("event-channel", "9");
    front_writes("request-rx-copy", "1");
    front_writes("state", "4");
  }
  /// What the spawner hears of the store's events.
  std::vector<VmEvent> events(ForeignVm& vm) {
    std::vector<VmEvent> out;
    while (const auto changed = store.next_event()) {
      EXPECT_EQ(changed->token, std::to_string(kKey));
      if (auto event = vm.front_changed()) out.push_back(std::move(*event));
    }
    return out;
  }
  std::string back_state() { return store.read(back_path(kGuest) + "/state").value(); }

  FakeControlStore store;
  toolstack::FakeXenCalls xen;
  GuestMemory memory{4};
  std::shared_ptr<LinkLog> link = std::make_shared<LinkLog>();
  std::vector<std::pair<WorkerId, ForeignLinkConfig>> connections;
  std::vector<backend::DoorbellToken> forgotten;
  backend::xen::XenbusOffer offer;
  bool rings_are_granted = true;
  int consoles = 0;
};

TEST_F(ForeignVmTest, IsIntroducedAndWatchedAndLeavesNothing) {
  {
    const auto vm = make();
    ASSERT_TRUE(vm);
    EXPECT_EQ(store.introduced, std::vector{kGuest});
    EXPECT_EQ(store.watches(), 1u);
    EXPECT_FALSE((*vm)->link_ready());
    EXPECT_FALSE((*vm)->take_link());
    EXPECT_TRUE((*vm)->start());
    EXPECT_TRUE(xen.domains.at(kGuest).running);
  }
  EXPECT_EQ(forgotten, std::vector{kKey});
  expect_nothing_left();
}

TEST_F(ForeignVmTest, AFailureAtAnyStepOfTheStoreLeavesNothing) {
  int step = 0;
  for (;; ++step) {
    store.fail_at_step = step;
    const auto vm = make();
    if (vm) break;
    EXPECT_EQ(vm.error().code(), ErrorCode::kExhausted) << step;
    store.fail_at_step = -1;
    expect_nothing_left();
  }
  EXPECT_GT(step, 17);
}

TEST_F(ForeignVmTest, AFrontEndThatConnectsMakesTheVifReady) {
  const auto vm = std::move(make().value());
  EXPECT_TRUE(events(*vm).empty());
  front_connects();
  const auto heard = events(*vm);
  ASSERT_EQ(heard.size(), 1u);
  EXPECT_EQ(heard[0].kind, VmEvent::Kind::kVifReady);
  EXPECT_EQ(heard[0].vm, (VmId{kGuest, 3}));
  EXPECT_EQ(back_state(), "4");
  ASSERT_EQ(connections.size(), 1u);
  EXPECT_EQ(connections[0].first, WorkerId{1});
  EXPECT_EQ(connections[0].second.token, 9u);
  EXPECT_EQ(connections[0].second.tx_ring, GrantRef{768});
  EXPECT_TRUE(vm->link_ready());
  EXPECT_TRUE(vm->take_link());
  EXPECT_FALSE(vm->link_ready());
}

TEST_F(ForeignVmTest, AControlRingGoesToTheLinkIfItWasOffered) {
  offer.control_ring = true;
  const auto vm = std::move(make().value());
  EXPECT_EQ(store.read(back_path(kGuest) + "/feature-ctrl-ring").value(), "1");
  front_writes("ctrl-ring-ref", "770");
  front_writes("event-channel-ctrl", "12");
  front_connects();
  events(*vm);
  ASSERT_EQ(connections.size(), 1u);
  ASSERT_TRUE(connections[0].second.control);
  EXPECT_EQ(connections[0].second.control->ring, GrantRef{770});
  EXPECT_EQ(connections[0].second.control->port, EventPort{12});
}

TEST_F(ForeignVmTest, AnotherWorkersDoorbellConnectsAnewAndTheSameOneDoesNot) {
  const auto vm = std::move(make().value());
  ASSERT_TRUE(vm->set_doorbell(WorkerId{1}, 10));
  front_connects();
  events(*vm);
  ASSERT_TRUE(vm->set_doorbell(WorkerId{1}, 10));
  ASSERT_EQ(connections.size(), 1u);
  EXPECT_EQ(connections[0].second.token, 10u);
  ASSERT_TRUE(vm->set_doorbell(WorkerId{0}, 5));
  ASSERT_EQ(connections.size(), 2u);
  EXPECT_EQ(connections[1].first, WorkerId{0});
  EXPECT_EQ(connections[1].second.token, 5u);
  EXPECT_TRUE(vm->link_ready());
  rings_are_granted = false;
  EXPECT_FALSE(vm->set_doorbell(WorkerId{1}, 6));
  EXPECT_FALSE(vm->link_ready());
}

TEST_F(ForeignVmTest, AFrontEndMayComeBackUntilItsVifIsInUse) {
  const auto vm = std::move(make().value());
  front_connects();
  events(*vm);
  front_writes("state", "5");
  EXPECT_TRUE(events(*vm).empty());
  EXPECT_FALSE(vm->link_ready());
  front_writes("state", "6");
  front_writes("state", "1");
  EXPECT_TRUE(events(*vm).empty());
  front_connects();
  EXPECT_EQ(events(*vm).size(), 1u);

  const auto taken = vm->take_link();
  front_writes("state", "6");
  const auto heard = events(*vm);
  ASSERT_EQ(heard.size(), 1u);
  EXPECT_EQ(heard[0].kind, VmEvent::Kind::kExited);
  EXPECT_EQ(heard[0].detail, "the front end closed its vif");
  front_writes("state", "1");
  front_connects();
  EXPECT_TRUE(events(*vm).empty());  // its end was told already
  EXPECT_FALSE(vm->link_ready());
}

TEST_F(ForeignVmTest, AFrontEndThatCannotBeServedEndsTheGuestOnce) {
  const auto vm = std::move(make().value());
  rings_are_granted = false;
  front_connects();
  const auto heard = events(*vm);
  ASSERT_EQ(heard.size(), 1u);
  EXPECT_EQ(heard[0].kind, VmEvent::Kind::kExited);
  EXPECT_EQ(heard[0].detail, "its rings are not granted");
  EXPECT_EQ(back_state(), "5");
}

TEST_F(ForeignVmTest, AStoreThatFailsLaterEndsTheGuest) {
  const auto vm = std::move(make().value());
  events(*vm);
  store.fail_at_step = 0;
  const auto event = vm->front_changed();
  ASSERT_TRUE(event);
  EXPECT_EQ(event->kind, VmEvent::Kind::kExited);
  EXPECT_NE(event->detail.find("store quota"), std::string::npos);
}

TEST_F(ForeignVmTest, ItsLastWordsAreItsConsolesLastLine) {
  const auto vm = std::move(make().value());
  EXPECT_EQ(vm->last_words(), "");
  vm->read_console();
  EXPECT_EQ(vm->last_words(), "Kernel panic - not syncing");
}

}  // namespace
}  // namespace synfluid::spawner::xen
