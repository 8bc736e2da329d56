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
  SpawnReply same = serve(0, kPerSubscriber, 1);
  EXPECT_EQ(same.outcome, kShared);
  EXPECT_EQ(same.vm, first.vm);
  EXPECT_EQ(same.doorbell, first.doorbell);
  SpawnReply other = serve(1, kPerSubscriber, 1);
  EXPECT_EQ(other.outcome, kElsewhere);
  EXPECT_EQ(other.owner, WorkerId(0));
  EXPECT_NE(serve(1, kPerSubscriber, 2).vm, first.vm);
  EXPECT_EQ(fake_.live, 2u);
  EXPECT_EQ(admission_.vms(), 4u);
  same.ticket.release();
  other.ticket.release();
  EXPECT_EQ(admission_.vms(), 2u) << "who shares gets the place back that the request had";
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

TEST_F(SpawnerTest, AVmsConsoleIsReadByItsDomainId) {
  const SpawnReply reply = serve(0, kPerFlow);
  guest(reply.vm).console = "hello\n";
  const auto text = spawner_->console(reply.vm.domid);
  ASSERT_TRUE(text) << text.error().text();
  EXPECT_EQ(*text, "hello\n");
  const auto none = spawner_->console(DomId(7));
  ASSERT_FALSE(none);
  EXPECT_EQ(none.error().code(), ErrorCode::kNotFound);
  EXPECT_THAT(none.error().text(), HasSubstr("no VM with domain id 7"));
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
