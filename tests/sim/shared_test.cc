// VMs that serve more than one flow, more than one worker, more than one policy.

#include "tests/sim/sim.h"

namespace synfluid::gateway::testing {
namespace {

using namespace tcp_flag;

class SharedSim : public Sim {
 protected:
  static policies::PolicySpec per_subscriber() {
    return one_service(ServiceMode::kInline, OnFailure::kBypass, Scope::kSubscriber);
  }
};

TEST_F(SharedSim, FlowsOfOneSubscriberShareAVm) {
  start({.policy = per_subscriber()});
  Guest& first = summon({.client = 1, .client_port = 1000});
  put(Side::kAccess, Wire{.client = 1, .client_port = 1001}.from_client({}));
  run();
  EXPECT_EQ(guests(), 1u);
  EXPECT_EQ(first.receive_all().size(), 2u);
  ASSERT_EQ(events_.vms.size(), 2u);
  EXPECT_TRUE(events_.vms[1].shared);
  put(Side::kAccess, Wire{.client = 2, .client_port = 1000}.from_client({}));
  run();
  EXPECT_EQ(guests(), 2u) << "another subscriber has a VM of its own";
}

TEST_F(SharedSim, TwoFlowsAskingAtOnceShareAVm) {
  start({.policy = per_subscriber()});
  put(Side::kAccess, Wire{.client_port = 1000}.from_client({}));
  put(Side::kAccess, Wire{.client_port = 1001}.from_client({}));
  run();
  EXPECT_EQ(guests(), 1u);
  EXPECT_EQ(guest(0).receive_all().size(), 2u);
}

TEST_F(SharedSim, ASharedVmOutlivesItsLastFlowByTheIdleTime) {
  start({.policy = per_subscriber()});
  const Wire wire;
  Guest& guest = summon(wire);
  guest.send(guest.receive());
  run();
  put(Side::kAccess, wire.from_client({.flags = kRst, .seq = 1001}));
  run();
  guest.send(guest.receive());
  pass(1 * kNsPerSecond);
  EXPECT_FALSE(guest.destroyed());
  put(Side::kAccess, Wire{.client_port = 2000}.from_client({}));
  run();
  EXPECT_EQ(guests(), 1u) << "it serves the next flow";
  pass(25 * kNsPerSecond);
  EXPECT_TRUE(guest.destroyed());
}

TEST_F(SharedSim, OneSilentFlowDoesNotTakeTheSharedVmFromTheOthers) {
  start({.policy = per_subscriber()});
  const Wire good{.client_port = 1000};
  const Wire bad{.client_port = 1001};
  Guest& guest = summon(good);
  guest.send(guest.receive());
  run();
  put(Side::kAccess, bad.from_client({}));
  run();
  EXPECT_EQ(guest.receive(), bad.from_client({}));
  take(Side::kCore);
  pass(2100 * kNsPerMs);
  EXPECT_EQ(take(Side::kCore), std::vector<Frame>{bad.from_client({})});
  EXPECT_FALSE(guest.destroyed());
}

TEST_F(SharedSim, FlowsThatArriveAtAnotherWorkerAreHandedToTheOwner) {
  start({.policy = per_subscriber(), .workers = 2});
  const Wire owned{.client_port = 1000};
  const Wire elsewhere{.client_port = 1001};
  Guest& guest = summon(owned);
  EXPECT_EQ(guest.receive(), owned.from_client({}));
  put(Side::kAccess, elsewhere.from_client({}), 1);
  run();
  EXPECT_EQ(guests(), 1u);
  EXPECT_EQ(guest.receive(), elsewhere.from_client({}));
  guest.send(elsewhere.from_client({}));
  run();
  EXPECT_EQ(take(Side::kCore, 0), std::vector<Frame>{elsewhere.from_client({})});
  const Frame answer = elsewhere.from_server({.flags = kSyn | kAck, .seq = 5000, .ack = 1001});
  put(Side::kCore, answer, 1);
  run();
  EXPECT_EQ(guest.receive(), answer);
  EXPECT_EQ(counters(1).handed_out.get(), 2u);
  EXPECT_EQ(counters(0).handed_in.get(), 2u);
  expect_balance();
}

TEST_F(SharedSim, AFlowHandedToAWorkerWhoseVmIsGoneGetsANewOne) {
  start({.policy = per_subscriber(), .workers = 2});
  summon({.client_port = 1000});
  const Wire moved{.client_port = 1001};
  put(Side::kAccess, moved.from_client({}), 1);
  run();
  hypervisor_.crash(guest(0).id());
  run();
  EXPECT_TRUE(guest(0).destroyed());
  take(Side::kCore, 0);
  put(Side::kAccess, Wire{.client_port = 1002}.from_client({}), 1);
  run();
  EXPECT_EQ(guests(), 2u);
  EXPECT_EQ(guest(1).receive_all().size(), 1u);
  expect_balance();
}

TEST_F(SharedSim, AVmThatIsAskedForAgainIsCountedLikeAnyOther) {
  start({.policy = per_subscriber()});
  spawner_runs_ = false;
  put(Side::kAccess, Wire{.client_port = 1000}.from_client({}));
  pass(600 * kNsPerMs);
  put(Side::kAccess, Wire{.client_port = 1001}.from_client({}));
  pass(600 * kNsPerMs);  // the first flow has given up, the second has not
  spawner_runs_ = true;
  run();
  ASSERT_EQ(guests(), 2u) << "the first flow's VM went back before the second could share it";
  EXPECT_FALSE(guest(1).destroyed());
  EXPECT_EQ(guest(1).receive_all().size(), 1u);
  EXPECT_EQ(admission_->vms(), 1u);
}

TEST_F(SharedSim, RunningFlowsKeepTheirServiceThroughAReload) {
  start({.policy = one_service(ServiceMode::kTerminate)});
  const Wire old{.client = 1};
  Guest& guest = connect(old);
  policies::PolicySpec empty;
  reload(empty);
  put(Side::kAccess, old.from_client({.flags = kAck, .seq = 1001, .ack = 5001, .payload = "still there"}));
  put(Side::kAccess, Wire{.client = 2}.from_client({}));
  run();
  EXPECT_EQ(guest.receive_all().size(), 1u);
  EXPECT_EQ(take(Side::kCore), std::vector<Frame>{Wire{.client = 2}.from_client({})});
  EXPECT_EQ(guests(), 1u);
}

TEST_F(SharedSim, AReloadWhileAVmIsOnItsWayLosesNothing) {
  start({.policy = one_service(ServiceMode::kTerminate)});
  spawner_runs_ = false;
  const Wire wire;
  put(Side::kAccess, wire.from_client({}));
  run();
  reload(policies::PolicySpec{});
  spawner_runs_ = true;
  run();
  ASSERT_EQ(guests(), 1u);
  EXPECT_EQ(guest(0).receive(), wire.from_client({}));
}

TEST_F(SharedSim, WhileDrainingNewFlowsFollowOnFailureAndOldOnesGoOn) {
  start({.policy = one_service(ServiceMode::kTerminate)});
  const Wire old{.client = 1};
  Guest& guest = connect(old);
  drain();
  put(Side::kAccess, Wire{.client = 2}.from_client({}));
  put(Side::kAccess, old.from_client({.flags = kAck, .seq = 1001, .ack = 5001, .payload = "on"}));
  run();
  EXPECT_EQ(guests(), 1u);
  EXPECT_EQ(take(Side::kCore), std::vector<Frame>{Wire{.client = 2}.from_client({})});
  EXPECT_EQ(guest.receive_all().size(), 1u);
}

}  // namespace
}  // namespace synfluid::gateway::testing
