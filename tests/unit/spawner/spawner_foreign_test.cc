// Images that boot and connect their vif by themselves.
#include "tests/unit/spawner/spawner_fixture.h"

namespace synfluid::spawner::testing {
namespace {

using enum SpawnOutcome;

TEST_F(SpawnerTest, AForeignVmIsStartedAtOnceAndServesWhenItsVifIsConnected) {
  ask(0, kForeign);
  settle();
  EXPECT_FALSE(port(0).next_reply());
  EXPECT_TRUE(last_guest().started);
  EXPECT_EQ(in_state(VmState::kBuilding), 1u);
  EXPECT_EQ(admission_.vms(), 1u);
  clock_.advance(kNsPerSecond);
  fake_.connect(last_guest());
  settle();
  const SpawnReply served = reply(0);
  EXPECT_EQ(served.outcome, kServed);
  EXPECT_EQ(served.create_ns, kNsPerSecond);
  EXPECT_EQ(guest(served.vm).frames_received(), 1u);
}

TEST_F(SpawnerTest, AForeignVmThatDoesNotConnectInTimeFailsItsFlowAndGoes) {
  ask(0, kForeign);
  settle();
  ASSERT_TRUE(spawner_->next_deadline_ns());
  clock_.advance(*spawner_->next_deadline_ns() - clock_.now_ns());
  settle();
  EXPECT_EQ(reply(0).outcome, kFailed);
  EXPECT_EQ(fake_.live, 0u);
}

TEST_F(SpawnerTest, AForeignVmThatDiesWhileItBootsFailsItsRequests) {
  ask(0, kForeignShared);
  ask(1, kForeignShared);
  settle();
  EXPECT_EQ(fake_.live, 1u);
  fake_.crash(last_guest().id);
  settle();
  EXPECT_EQ(reply(0).outcome, kFailed);
  EXPECT_EQ(reply(1).outcome, kFailed);
  EXPECT_EQ(fake_.live, 0u);
}

TEST_F(SpawnerTest, WaitersOfASharedForeignVmAreAnsweredTogether) {
  ask(1, kForeignShared);
  settle();
  ask(0, kForeignShared);
  ask(1, kForeignShared);
  settle();
  fake_.connect(last_guest());
  settle();
  EXPECT_EQ(reply(1).outcome, kServed);
  EXPECT_EQ(reply(1).outcome, kShared);
  const SpawnReply other = reply(0);
  EXPECT_EQ(other.outcome, kElsewhere);
  EXPECT_EQ(other.owner, WorkerId(1));
}

TEST_F(SpawnerTest, ASharedForeignVmBootsOnAfterItsRequestGaveUpAndServesALaterOne) {
  ask(0, kForeignShared);
  settle();
  clock_.advance(5 * kNsPerSecond);
  settle();
  EXPECT_EQ(reply(0).outcome, kFailed);
  EXPECT_EQ(fake_.live, 1u);
  fake_.connect(last_guest());
  settle();
  const SpawnReply later = serve(1, kForeignShared);
  EXPECT_EQ(later.outcome, kServed);
  EXPECT_EQ(fake_.live, 1u);
  EXPECT_EQ(guest(later.vm).worker, WorkerId(1));
}

TEST_F(SpawnerTest, ASharedForeignVmThatNobodyComesForGoesAfterItsIdleTime) {
  ask(0, kForeignShared);
  settle();
  clock_.advance(5 * kNsPerSecond);
  settle();
  reply(0);
  fake_.connect(last_guest());
  settle();
  clock_.advance(31 * kNsPerSecond);
  settle();
  EXPECT_EQ(fake_.live, 0u);
}

TEST_F(SpawnerTest, AForeignVmThatNeverConnectsGoesAfterTheBootTime) {
  ask(0, kForeignShared);
  settle();
  clock_.advance(61 * kNsPerSecond);
  settle();
  EXPECT_EQ(reply(0).outcome, kFailed);
  EXPECT_EQ(fake_.live, 0u);
}

TEST_F(SpawnerTest, AForeignServiceCanHaveAPoolOfConnectedVms) {
  policies::PolicySpec spec = test_policy();
  spec.services[kForeign].pool = {.min = 1, .max = 1};
  spec.services[kPooled].pool = {};
  services_ = prepare(spec);
  spawner_->activate(services_);
  settle();
  EXPECT_EQ(in_state(VmState::kBuilding), 1u);
  EXPECT_TRUE(last_guest().started);
  fake_.connect(last_guest());
  settle();
  EXPECT_EQ(in_state(VmState::kPooled), 1u);
  EXPECT_TRUE(serve(0, kForeign).pooled);
}

}  // namespace
}  // namespace synfluid::spawner::testing
