// Pools: filled, taken from, sized, given up.
#include "tests/unit/spawner/spawner_fixture.h"

namespace synfluid::spawner::testing {
namespace {

using enum SpawnOutcome;

/// What Spawner::Config sets apart for flows, in VMs of the fake's.
constexpr uint32_t kReserveVms = 32;

TEST_F(SpawnerTest, APoolIsFilledToItsMinimumWhenThePolicyIsActivated) {
  spawner_->activate(services_);
  clock_.advance(10 * kNsPerMs);
  settle();
  clock_.advance(10 * kNsPerMs);
  settle();
  EXPECT_EQ(in_state(VmState::kPooled), 2u);
  EXPECT_EQ(fake_.live, 2u);
  EXPECT_FALSE(last_guest().started) << "pooled guests are paused";
}

TEST_F(SpawnerTest, ARefillKeepsToItsRate) {
  policies::PolicySpec spec = test_policy();
  spec.services[kPooled].pool = {.min = 8, .max = 8};
  services_ = prepare(spec);
  spawner_->activate(services_);
  settle();
  EXPECT_EQ(fake_.live, 1u);
  clock_.advance(2 * kNsPerMs);  // 500 a second
  settle();
  EXPECT_EQ(fake_.live, 2u);
  const auto next = spawner_->next_deadline_ns();
  ASSERT_TRUE(next);
  EXPECT_EQ(*next, clock_.now_ns() + 2 * kNsPerMs);
}

class FilledPoolTest : public SpawnerTest {
 protected:
  FilledPoolTest() { fill(); }
  void fill() {
    spawner_->activate(services_);
    for (int i = 0; i < 20; ++i) {
      clock_.advance(2 * kNsPerMs);
      settle();
    }
  }
};

TEST_F(FilledPoolTest, ARequestTakesAPooledVmWithItsDoorbellRedirected) {
  const SpawnReply reply = serve(1, kPooled);
  EXPECT_EQ(reply.outcome, kServed);
  EXPECT_TRUE(reply.pooled);
  EXPECT_EQ(reply.create_ns, 0);
  FakeGuest& taken = guest(reply.vm);
  EXPECT_TRUE(taken.started);
  EXPECT_EQ(taken.worker, WorkerId(1));
  EXPECT_EQ(taken.doorbell, reply.doorbell);
  EXPECT_EQ(taken.frames_received(), 1u);
  EXPECT_EQ(spawner_->counters().served_pooled, 1u);
}

TEST_F(FilledPoolTest, ABurstFallsThroughToColdBuildsAndNeverToARefusal) {
  for (int i = 0; i < 10; ++i) ask(0, kPooled);
  settle();
  int pooled = 0;
  for (int i = 0; i < 10; ++i) {
    const SpawnReply got = reply(0);
    EXPECT_EQ(got.outcome, kServed);
    pooled += got.pooled ? 1 : 0;
  }
  EXPECT_EQ(pooled, 2);
}

TEST_F(FilledPoolTest, ItGrowsWithDemandAndSinksAgain) {
  for (int i = 0; i < 10; ++i) ask(0, kPooled);
  settle();
  for (int i = 0; i < 10; ++i) reply(0);
  fill();
  EXPECT_EQ(in_state(VmState::kPooled), 8u);
  for (int second = 0; second < 30; ++second) {
    clock_.advance(kNsPerSecond);
    settle();
  }
  EXPECT_EQ(in_state(VmState::kPooled), 2u);
}

TEST_F(FilledPoolTest, APooledVmThatDiesIsReplaced) {
  const VmId first = last_guest().id;
  fake_.crash(first);
  settle();
  EXPECT_TRUE(guest(first).destroyed);
  clock_.advance(10 * kNsPerMs);
  settle();
  EXPECT_EQ(in_state(VmState::kPooled), 2u);
}

TEST_F(FilledPoolTest, WhenMemoryIsShortThePoolGivesWayToAFlow) {
  fake_.capacity = 2;
  EXPECT_EQ(serve(0, kPerFlow).outcome, kServed);
  EXPECT_EQ(serve(0, kPerFlow).outcome, kServed);
  EXPECT_EQ(serve(0, kPerFlow).outcome, kFailed);
}

TEST_F(FilledPoolTest, PooledVmsGiveWayWhenMaxVmsIsReached) {
  policies::PolicySpec spec = test_policy();
  spec.limits.max_vms = 2;
  services_ = prepare(spec);
  fill();
  EXPECT_EQ(fake_.live, 2u);
  EXPECT_EQ(serve(0, kPerFlow).outcome, kServed);
  EXPECT_EQ(serve(0, kPerFlow).outcome, kServed);
  EXPECT_EQ(fake_.live, 2u);
}

TEST_F(FilledPoolTest, MemoryPressureEmptiesThePoolUntilThereIsEnough) {
  policies::PolicySpec spec = test_policy();
  spec.services[kPooled].pool = {.min = 8, .max = 8};
  services_ = prepare(spec);
  fill();
  ASSERT_EQ(in_state(VmState::kPooled), 8u);
  fake_.capacity = fake_.live + kReserveVms - 3;  // somebody else has taken the rest
  clock_.advance(kNsPerSecond);
  settle();
  EXPECT_EQ(in_state(VmState::kPooled), 5u) << "as many as it takes, and no more";
  fake_.capacity = 0;
  clock_.advance(kNsPerSecond);
  settle();
  EXPECT_EQ(in_state(VmState::kPooled), 0u);
  fake_.capacity = 1000;
  clock_.advance(kNsPerSecond);
  fill();
  EXPECT_EQ(in_state(VmState::kPooled), 8u);
}

TEST_F(FilledPoolTest, ThePressureIsFoundWithoutAnybodyAsking) {
  fake_.capacity = 0;
  const auto next = spawner_->next_deadline_ns();
  ASSERT_TRUE(next);
  EXPECT_LE(*next, clock_.now_ns() + kNsPerSecond);
}

TEST_F(SpawnerTest, APoolLeavesFlowsTheirMemory) {
  policies::PolicySpec spec = test_policy();
  spec.services[kPooled].pool = {.min = 8, .max = 8};
  services_ = prepare(spec);
  fake_.capacity = kReserveVms + 4;
  spawner_->activate(services_);
  for (int second = 0; second < 20; ++second) {
    clock_.advance(kNsPerSecond);
    settle();
  }
  const size_t pooled = in_state(VmState::kPooled);
  EXPECT_GE(pooled, 2u);
  EXPECT_LE(pooled, 4u);
  EXPECT_EQ(fake_.created, pooled) << "what was taken is not given up again";
  for (uint32_t flow = 0; flow < kReserveVms; ++flow) EXPECT_EQ(serve(0, kPerFlow).outcome, kServed);
}

TEST_F(FilledPoolTest, AFailingRefillBacksOff) {
  fake_.refuse_all = true;
  serve(0, kPooled);
  const uint32_t before = fake_.refused;
  for (int ms = 0; ms < 1000; ++ms) {
    clock_.advance(kNsPerMs);
    settle();
  }
  EXPECT_LE(fake_.refused - before, 6u) << "after 0.1, 0.2, 0.4 … seconds";
  EXPECT_GE(fake_.refused - before, 2u);
}

TEST_F(FilledPoolTest, DrainEmptiesThePoolAndFailsNewRequestsWhileVmsRunOn) {
  const SpawnReply running = serve(0, kPooled);
  spawner_->drain();
  settle();
  EXPECT_EQ(fake_.live, 1u);
  EXPECT_EQ(serve(0, kPerFlow).outcome, kFailed);
  EXPECT_FALSE(guest(running.vm).destroyed);
  spawner_->activate(services_);
  EXPECT_EQ(serve(0, kPerFlow).outcome, kServed);
}

TEST_F(FilledPoolTest, AReloadPoolsForTheNewPolicyAndKeepsTheOldImagesWhileTheyAreUsed) {
  const SpawnReply old = serve(0, kPooled);
  services_ = prepare(test_policy());
  fill();
  EXPECT_EQ(in_state(VmState::kPooled), 2u);
  for (const VmInfo& info : spawner_->snapshot())
    if (info.state == VmState::kPooled) {
      EXPECT_EQ(info.set_generation, services_->generation());
    }
  EXPECT_EQ(fake_.images, 2 * kServices);
  give_back(0, old.vm);
  settle();
  spawner_->step();
  EXPECT_EQ(fake_.images, kServices) << "the old policy's images went with its last VM";
}

}  // namespace
}  // namespace synfluid::spawner::testing
