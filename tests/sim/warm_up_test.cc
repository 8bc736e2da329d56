// The guest that is built before the first SYN.

#include "gateway/warm_up.h"

#include <gtest/gtest.h>

#include "base/clock.h"
#include "tests/unit/spawner/fake_hypervisor.h"

namespace synfluid::gateway::testing {
namespace {

class WarmUp : public ::testing::Test {
 protected:
  void warm_up_for(std::vector<std::string> images) {
    policies::PolicySpec spec;
    for (std::string& image : images) {
      policies::Service service;
      service.name = image;
      service.image = std::move(image);
      spec.services.push_back(service);
    }
    auto spawner = spawner::Spawner::create({.hypervisor = hypervisor_, .clock = clock_});
    ASSERT_TRUE(spawner);
    const auto services = (*spawner)->prepare(std::make_shared<const policies::Policy>(std::move(spec)));
    ASSERT_TRUE(services) << services.error().text();
    warm_up(hypervisor_, **services);
  }

  ManualClock clock_{0};
  spawner::testing::FakeHypervisor hypervisor_;
};

TEST_F(WarmUp, BuildsOneGuestAndLeavesNothing) {
  warm_up_for({"/srv/images/linux", "builtin:firewall", "builtin:responder"});
  ASSERT_EQ(hypervisor_.guests.size(), 1u);
  EXPECT_TRUE(hypervisor_.guests[0]->wired) << "a guest of ours, not a foreign one";
  EXPECT_FALSE(hypervisor_.guests[0]->started);
  EXPECT_FALSE(hypervisor_.guests[0]->link_alive_at_destruction);
  EXPECT_EQ(hypervisor_.live, 0u);
}

TEST_F(WarmUp, HasNothingToDoWithoutAnImageOfOurs) {
  warm_up_for({"/srv/images/linux"});
  EXPECT_TRUE(hypervisor_.guests.empty());
}

TEST_F(WarmUp, IsNoFailureOfItsOwn) {
  hypervisor_.capacity = 0;
  warm_up_for({"builtin:responder"});
  EXPECT_TRUE(hypervisor_.guests.empty());
}

}  // namespace
}  // namespace synfluid::gateway::testing
