// Teardown: in batches, when nobody waits, and never in the way of a VM that is asked for.
#include <numeric>

#include "tests/unit/spawner/spawner_fixture.h"

namespace synfluid::spawner::testing {
namespace {

using enum SpawnOutcome;

class TeardownTest : public SpawnerTest {
 protected:
  std::vector<VmId> serve_many(size_t count) {
    std::vector<VmId> vms;
    for (size_t i = 0; i < count; ++i) vms.push_back(serve(0, kPerFlow).vm);
    return vms;
  }
  size_t destroyed() const { return std::accumulate(fake_.batches.begin(), fake_.batches.end(), size_t{0}); }
};

TEST_F(TeardownTest, ABurstIsServedBeforeTheVmsOfTheLastOneGo) {
  for (const VmId vm : serve_many(10)) give_back(0, vm);
  for (int i = 0; i < 8; ++i) ask(0, kPerFlow);
  spawner_->step();
  for (int i = 0; i < 8; ++i) EXPECT_EQ(reply(0).outcome, kServed);
  EXPECT_EQ(destroyed(), 0u);
  settle();
  EXPECT_EQ(destroyed(), 10u);
}

TEST_F(TeardownTest, TheyGoInBatchesBetweenWhichRequestsAreTaken) {
  for (const VmId vm : serve_many(10)) give_back(0, vm);
  spawner_->step();
  EXPECT_EQ(fake_.batches, (std::vector<size_t>{4}));
  EXPECT_EQ(spawner_->counters().vms, 6u);
  ask(0, kPerFlow);
  spawner_->step();
  EXPECT_EQ(reply(0).outcome, kServed);
  EXPECT_EQ(destroyed(), 4u);
  settle();
  EXPECT_EQ(fake_.batches, (std::vector<size_t>{4, 4, 2}));
}

TEST_F(TeardownTest, TheDyingDoNotPileUpUnderRequestsWithoutEnd) {
  constexpr size_t kMostDying = 256;
  size_t given_back = 0;
  for (const VmId vm : serve_many(600)) {
    give_back(0, vm);
    ++given_back;
    ask(1, kPerFlow);
    spawner_->step();
    reply(1);
    EXPECT_LE(given_back - destroyed(), kMostDying + 1);
  }
  EXPECT_GT(destroyed(), 0u);
}

TEST_F(TeardownTest, ADyingVmGivesItsPlaceUnderMaxVmsToAFlow) {
  policies::PolicySpec spec = test_policy();
  spec.limits.max_vms = 4;
  services_ = prepare(spec);
  for (const VmId vm : serve_many(4)) give_back(0, vm);
  for (int i = 0; i < 4; ++i) ask(0, kPerFlow);
  spawner_->step();
  for (int i = 0; i < 4; ++i) EXPECT_EQ(reply(0).outcome, kServed);
  EXPECT_LE(fake_.live, 4u);
}

TEST_F(TeardownTest, WhenMemoryIsShortTheDyingGoAtOnceButOnlyAsManyAsItTakes) {
  const std::vector<VmId> vms = serve_many(8);
  fake_.capacity = 8;
  for (const VmId vm : vms) give_back(0, vm);
  ask(0, kPerFlow);
  spawner_->step();
  EXPECT_EQ(reply(0).outcome, kServed);
  EXPECT_EQ(destroyed(), 2u);
}

}  // namespace
}  // namespace synfluid::spawner::testing
