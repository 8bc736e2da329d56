#include "spawner/spawner.h"

#include <gmock/gmock.h>

#include "tests/unit/spawner/spawner_fixture.h"

namespace synfluid::spawner::testing {
namespace {

using enum SpawnOutcome;
using ::testing::HasSubstr;

// --- One VM for each flow ---

TEST_F(SpawnerTest, ARequestIsServedByANewVmThatHasTheSynBeforeItRuns) {
  const SpawnReply reply = serve(0, kPerFlow);
  EXPECT_EQ(reply.outcome, kServed);
  EXPECT_EQ(reply.cookie, 1u);
  EXPECT_FALSE(reply.pooled);
  EXPECT_EQ(reply.vm.domid, DomId(32751));
  FakeGuest& made = guest(reply.vm);
  EXPECT_TRUE(made.started);
  EXPECT_EQ(made.frames_received(), 1u);
  EXPECT_EQ(made.doorbell, reply.doorbell);
  EXPECT_EQ(admission_.vms(), 1u);
  EXPECT_EQ(spawner_->counters().served_cold, 1u);
}

TEST_F(SpawnerTest, TwoFlowsGetTwoVms) {
  EXPECT_NE(serve(0, kPerFlow).vm, serve(0, kPerFlow).vm);
  EXPECT_EQ(fake_.live, 2u);
}

TEST_F(SpawnerTest, AVmThatIsGivenBackIsDestroyedAfterItsVifAndItsPlaceIsFree) {
  const SpawnReply reply = serve(0, kPerFlow);
  give_back(0, reply.vm);
  settle();
  EXPECT_TRUE(guest(reply.vm).destroyed);
  EXPECT_FALSE(guest(reply.vm).link_alive_at_destruction);
  EXPECT_EQ(admission_.vms(), 0u);
  EXPECT_EQ(spawner_->counters().destroyed, 1u);
}

TEST_F(SpawnerTest, AVmGivenBackTwiceOrByAnotherWorkerDoesNoHarm) {
  const SpawnReply reply = serve(0, kPerFlow);
  EXPECT_TRUE(port(1).give_back({.vm = reply.vm, .vif = nullptr}));
  settle();
  EXPECT_FALSE(guest(reply.vm).destroyed);
  give_back(0, reply.vm);
  EXPECT_TRUE(port(0).give_back({.vm = reply.vm, .vif = nullptr}));
  settle();
  EXPECT_TRUE(guest(reply.vm).destroyed);
}

TEST_F(SpawnerTest, WhatCannotBeBuiltIsRepliedWithItsReasonAndKeepsNoPlace) {
  fake_.capacity = 0;
  const SpawnReply reply = serve(0, kPerFlow);
  EXPECT_EQ(reply.outcome, kFailed);
  EXPECT_THAT(reply.error, HasSubstr("service 'per-flow'"));
  EXPECT_THAT(reply.error, HasSubstr("no memory for another guest"));
  EXPECT_EQ(admission_.vms(), 0u);
}

TEST_F(SpawnerTest, ARequestForNoServiceFails) {
  SpawnRequest wrong = request(kPerFlow);
  wrong.service = 99;
  EXPECT_TRUE(port(0).request(std::move(wrong)));
  SpawnRequest empty = request(kPerFlow);
  empty.services.reset();
  EXPECT_TRUE(port(0).request(std::move(empty)));
  settle();
  EXPECT_EQ(reply(0).outcome, kFailed);
  EXPECT_EQ(reply(0).outcome, kFailed);
}

TEST_F(SpawnerTest, AFirstFrameThatTheVifDoesNotTakeFailsTheRequest) {
  syn_.resize(9000);  // more than a page, and the front end takes no chains
  EXPECT_EQ(serve(0, kPerFlow).outcome, kFailed);
  settle();
  EXPECT_EQ(fake_.live, 0u);
}

// --- Death ---

TEST_F(SpawnerTest, ACrashIsToldToTheOwnerWhoGivesTheVifBack) {
  const SpawnReply reply = serve(1, kPerFlow);
  fake_.crash(reply.vm);
  settle();
  EXPECT_FALSE(port(0).next_lost());
  const auto lost = port(1).next_lost();
  ASSERT_TRUE(lost);
  EXPECT_EQ(lost->vm, reply.vm);
  EXPECT_EQ(lost->doorbell, reply.doorbell);
  EXPECT_EQ(lost->notice, SpawnerNotice::kCrashed);
  EXPECT_FALSE(guest(reply.vm).destroyed) << "its pages are still mapped";
  EXPECT_EQ(in_state(VmState::kDraining), 1u);
  give_back(1, reply.vm);
  settle();
  EXPECT_TRUE(guest(reply.vm).destroyed);
}

TEST_F(SpawnerTest, ADeathIsToldOnceAndNotAtAllAfterTheVmWasGivenBack) {
  const SpawnReply first = serve(0, kPerFlow);
  fake_.crash(first.vm);
  fake_.exit(first.vm);
  settle();
  EXPECT_TRUE(port(0).next_lost());
  EXPECT_FALSE(port(0).next_lost());
  give_back(0, first.vm);
  settle();
  fake_.crash(first.vm);
  settle();
  EXPECT_FALSE(port(0).next_lost());
}

// --- Scopes ---

TEST_F(SpawnerTest, ASubscriberHasOneVmThatBelongsToTheWorkerThatAskedFirst) {
  const SpawnReply first = serve(0, kPerSubscriber, 1);
  EXPECT_EQ(first.outcome, kServed);
  const SpawnReply same = serve(0, kPerSubscriber, 1);
  EXPECT_EQ(same.outcome, kShared);
  EXPECT_EQ(same.vm, first.vm);
  EXPECT_EQ(same.doorbell, first.doorbell);
  const SpawnReply other = serve(1, kPerSubscriber, 1);
  EXPECT_EQ(other.outcome, kElsewhere);
  EXPECT_EQ(other.owner, WorkerId(0));
  EXPECT_NE(serve(1, kPerSubscriber, 2).vm, first.vm);
  EXPECT_EQ(fake_.live, 2u);
  EXPECT_EQ(admission_.vms(), 2u) << "sharing takes no place";
}

TEST_F(SpawnerTest, AServiceHasOneVmForAllSubscribers) {
  const SpawnReply first = serve(0, kPerService, 1);
  EXPECT_EQ(serve(0, kPerService, 2).vm, first.vm);
  EXPECT_EQ(fake_.live, 1u);
}

TEST_F(SpawnerTest, ASharedVmThatDiedOrWasGivenBackIsReplacedByTheNextRequest) {
  const SpawnReply first = serve(0, kPerSubscriber);
  fake_.crash(first.vm);
  settle();
  const SpawnReply second = serve(1, kPerSubscriber);
  EXPECT_EQ(second.outcome, kServed);
  EXPECT_NE(second.vm, first.vm);
  give_back(0, first.vm);
  settle();
  EXPECT_EQ(serve(1, kPerSubscriber).outcome, kShared) << "the end of the first is not the second's";
  give_back(1, second.vm);
  settle();
  EXPECT_EQ(serve(0, kPerSubscriber).outcome, kServed);
}

TEST_F(SpawnerTest, ANewPolicySharesNoVmWithTheOldOne) {
  const SpawnReply first = serve(0, kPerSubscriber);
  services_ = prepare(test_policy());
  EXPECT_NE(serve(0, kPerSubscriber).vm, first.vm);
}

// --- Pools ---

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

TEST_F(SpawnerTest, MaxVmsHoldsForRequestsWithoutATicketToo) {
  policies::PolicySpec spec = test_policy();
  spec.limits.max_vms = 2;
  services_ = prepare(spec);
  EXPECT_EQ(serve(0, kPerFlow).outcome, kServed);
  EXPECT_EQ(serve(0, kPerFlow).outcome, kServed);
  SpawnRequest third = request(kPerFlow);
  third.ticket.release();
  EXPECT_TRUE(port(0).request(std::move(third)));
  settle();
  EXPECT_EQ(reply(0).outcome, kFailed);
  EXPECT_EQ(fake_.live, 2u);
}

TEST_F(SpawnerTest, ARequestDoesNotWaitForManyTeardowns) {
  for (int i = 0; i < 60; ++i) serve(0, kPerFlow);
  std::vector<VmId> owned;
  for (const auto& [vm, vif] : vifs_) owned.push_back(vm);
  for (const VmId vm : owned) give_back(0, vm);
  spawner_->step();
  EXPECT_GE(fake_.live, 58u);
  ask(0, kPerFlow);
  spawner_->step();
  EXPECT_EQ(reply(0).outcome, kServed);
  EXPECT_GE(fake_.live, 55u);
}

TEST_F(FilledPoolTest, AFailingRefillBacksOff) {
  faulty_.faults().fail_at(FaultPlan::kNever);
  fake_.capacity = 0;
  serve(0, kPooled);
  const uint64_t before = faulty_.faults().steps();
  for (int ms = 0; ms < 1000; ++ms) {
    clock_.advance(kNsPerMs);
    settle();
  }
  EXPECT_LE(faulty_.faults().steps() - before, 6u) << "after 0.1, 0.2, 0.4 … seconds";
  EXPECT_GE(faulty_.faults().steps() - before, 2u);
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

// --- Foreign images ---

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

// --- Rings ---

class SmallRingsTest : public SpawnerTest {
 protected:
  SmallRingsTest() : SpawnerTest(4) {}
};

TEST_F(SmallRingsTest, RequestsWaitInTheirRingWhileTheirRepliesHaveNoRoom) {
  for (int i = 0; i < 4; ++i) ask(0, kPerFlow);
  settle();
  for (int i = 0; i < 4; ++i) ask(0, kPerFlow);
  EXPECT_FALSE(port(0).request(request(kPerFlow))) << "the ring is full";
  settle();
  EXPECT_EQ(fake_.live, 4u);
  EXPECT_TRUE(spawner_->next_deadline_ns()) << "it looks again by itself";
  for (int i = 0; i < 4; ++i) reply(0);
  settle();
  EXPECT_EQ(fake_.live, 8u);
  for (int i = 0; i < 4; ++i) EXPECT_EQ(reply(0).outcome, kServed);
}

TEST_F(SmallRingsTest, WaitersKeepTheirRoomForAReply) {
  for (int i = 0; i < 3; ++i) ask(0, kForeign, static_cast<uint8_t>(i));
  settle();
  for (int i = 0; i < 3; ++i) ask(0, kPerFlow);
  settle();
  EXPECT_EQ(fake_.live, 4u) << "three wait, one was served: no room for a fifth reply";
  for (const auto& guest : fake_.guests)
    if (!guest->wired) fake_.connect(*guest);
  settle();
  for (int i = 0; i < 4; ++i) EXPECT_EQ(reply(0).outcome, kServed);
  settle();
  for (int i = 0; i < 2; ++i) EXPECT_EQ(reply(0).outcome, kServed);
}

TEST_F(SmallRingsTest, NoNoticeOfADeathIsLostWhenTheirRingIsFull) {
  std::vector<VmId> vms;
  for (int i = 0; i < 12; ++i) vms.push_back(serve(0, kPerFlow).vm);
  for (const VmId vm : vms) fake_.crash(vm);
  settle();
  for (int i = 0; i < 12; ++i) {
    settle();
    const auto lost = port(0).next_lost();
    ASSERT_TRUE(lost) << i;
    EXPECT_EQ(lost->vm, vms[static_cast<size_t>(i)]);
  }
}

// --- The end ---

TEST_F(SpawnerTest, AWorkerThatHasGoneLeavesNothing) {
  const SpawnReply kept = serve(1, kPerFlow);
  serve(0, kPerFlow);
  ask(0, kPerFlow);
  settle();  // a reply that nobody will take
  ask(0, kForeign);
  settle();          // a request that waits
  ask(0, kPerFlow);  // one that nobody has seen
  for (auto vif = vifs_.begin(); vif != vifs_.end();)
    vif = vif->first == kept.vm ? std::next(vif) : vifs_.erase(vif);
  spawner_->retire(WorkerId(0));
  settle();
  EXPECT_EQ(fake_.live, 1u);
  EXPECT_EQ(admission_.vms(), 1u);
  EXPECT_FALSE(guest(kept.vm).destroyed);
  EXPECT_EQ(serve(0, kPerFlow).outcome, kServed) << "its successor starts afresh";
}

TEST_F(SpawnerTest, StopDestroysEverythingWhateverItsState) {
  spawner_->activate(services_);
  settle();
  serve(0, kPerFlow);
  serve(1, kPerSubscriber);
  ask(0, kForeign);
  settle();
  const SpawnReply dead = serve(1, kPerFlow);
  fake_.crash(dead.vm);
  settle();
  ask(0, kPerFlow);
  EXPECT_GE(fake_.live, 5u);
  vifs_.clear();
  spawner_->stop();
  EXPECT_EQ(fake_.live, 0u);
  EXPECT_EQ(admission_.vms(), 0u);
}

TEST_F(SpawnerTest, ABrokenImageNamesItsServiceAndLeavesNoOtherPrepared) {
  policies::PolicySpec spec = test_policy();
  spec.services[kForeign].image = "broken";
  const int before = fake_.images;
  auto set = spawner_->prepare(std::make_shared<const policies::Policy>(std::move(spec)));
  ASSERT_FALSE(set);
  EXPECT_EQ(set.error().text(), "service 'foreign': image 'broken' is no ELF file");
  EXPECT_EQ(fake_.images, before);
}

TEST_F(SpawnerTest, TheSnapshotSaysWhoseAVmIs) {
  const SpawnReply reply = serve(1, kPerSubscriber, 7);
  const auto list = spawner_->snapshot();
  ASSERT_EQ(list.size(), 1u);
  EXPECT_EQ(list[0].vm, reply.vm);
  EXPECT_EQ(list[0].service, "per-subscriber");
  EXPECT_EQ(list[0].state, VmState::kRunning);
  EXPECT_EQ(list[0].owner, WorkerId(1));
  EXPECT_EQ(list[0].subscriber, subscriber_number(7));
  EXPECT_EQ(list[0].created_at_ns, kStart);
}

// --- Faults ---

TEST_F(SpawnerTest, AFaultAtEachStepIsOneFailedReplyAndLeavesNothing) {
  spawner_->activate(services_);
  settle();
  clock_.advance(10 * kNsPerMs);
  settle();
  const auto scenario = [&] {
    int failed = 0;
    ask(0, kPerFlow);
    ask(0, kPooled);
    ask(0, kPerSubscriber);
    ask(1, kPerSubscriber);
    ask(1, kForeign);
    settle();
    for (const auto& guest : fake_.guests)
      if (!guest->wired) fake_.connect(*guest);
    settle();
    std::vector<std::pair<uint16_t, VmId>> owned;
    for (uint16_t worker : {uint16_t{0}, uint16_t{1}})
      for (auto got = port(worker).next_reply(); got; got = port(worker).next_reply()) {
        failed += got->outcome == kFailed ? 1 : 0;
        if (!got->vif) continue;
        vifs_[got->vm] = std::move(got->vif);
        owned.emplace_back(worker, got->vm);
      }
    for (const auto& [worker, vm] : owned) give_back(worker, vm);
    settle();
    EXPECT_EQ(admission_.vms(), 0u);
    EXPECT_EQ(fake_.live, in_state(VmState::kPooled));
    clock_.advance(10 * kNsPerMs);
    settle();
    return failed;
  };
  faulty_.faults().fail_at(FaultPlan::kNever);
  EXPECT_EQ(scenario(), 0);
  const uint32_t steps = faulty_.faults().steps();
  EXPECT_GE(steps, 12u);
  int failures = 0;
  for (uint32_t step = 1; step <= steps; ++step) {
    SCOPED_TRACE(::testing::Message() << "fault at step " << step);
    faulty_.faults().fail_at(step);
    failures += scenario();
    EXPECT_TRUE(faulty_.faults().struck());
    faulty_.faults().fail_at(FaultPlan::kNever);
    clock_.advance(kNsPerSecond);
    settle();
  }
  EXPECT_GE(failures, 8);
}

TEST(FaultyHypervisor, FailsTheStepItIsToldAndNoOther) {
  FakeHypervisor fake;
  FaultyHypervisor faulty(fake);
  const ImageSpec spec{.service = "x", .image = "builtin:responder"};
  faulty.faults().fail_at(2);
  auto image = faulty.prepare(spec);
  ASSERT_TRUE(image);
  const auto failed = faulty.create(**image, {.name = "x"});
  ASSERT_FALSE(failed);
  EXPECT_EQ(failed.error().text(), "injected fault at step 2: create");
  EXPECT_TRUE(faulty.faults().struck());
  EXPECT_TRUE(faulty.create(**image, {.name = "x"}));
  EXPECT_EQ(faulty.faults().steps(), 3u);
  EXPECT_EQ(fake.created, 1u);
}

}  // namespace
}  // namespace synfluid::spawner::testing
