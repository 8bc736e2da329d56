#include "spawner/xen/reaper.h"

#include <latch>
#include <vector>

#include <gtest/gtest.h>

namespace synfluid::spawner::xen {
namespace {

/// Takes its time until it is told to go on.
class SlowEnder final : public toolstack::DomainEnder {
 public:
  SlowEnder(std::latch& go_on, std::vector<DomId>& ended) : go_on_(go_on), ended_(ended) {}
  Status destroy_domain(DomId domid) override {
    go_on_.wait();
    ended_.push_back(domid);
    return {};
  }

 private:
  std::latch& go_on_;
  std::vector<DomId>& ended_;
};

TEST(Reaper, NobodyWaitsForADomainThatIsSlowToDie) {
  std::latch go_on(1);
  std::vector<DomId> ended;
  auto reaper = Reaper::create(std::make_unique<SlowEnder>(go_on, ended));
  ASSERT_TRUE(reaper) << reaper.error().text();
  // Would never return if they waited.
  ASSERT_TRUE((*reaper)->destroy_domain(DomId(7)));
  ASSERT_TRUE((*reaper)->destroy_domain(DomId(6)));
  go_on.count_down();
  reaper->reset();
  EXPECT_EQ(ended, (std::vector{DomId(7), DomId(6)}));
}

TEST(Reaper, EndsAllItWasGivenBeforeItGoes) {
  std::latch go_on(0);
  std::vector<DomId> ended;
  auto reaper = Reaper::create(std::make_unique<SlowEnder>(go_on, ended));
  ASSERT_TRUE(reaper) << reaper.error().text();
  for (uint16_t id = 1; id <= 100; ++id) ASSERT_TRUE((*reaper)->destroy_domain(DomId(id)));
  reaper->reset();
  EXPECT_EQ(ended.size(), 100u);
}

}  // namespace
}  // namespace synfluid::spawner::xen
