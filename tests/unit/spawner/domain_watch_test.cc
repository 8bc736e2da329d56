#include "spawner/xen/domain_watch.h"

#include <algorithm>

#include <gtest/gtest.h>
#include <poll.h>

#include "tests/unit/spawner/fake_xen_calls.h"

namespace synfluid::spawner::xen {
namespace {

constexpr uint16_t kDomains = 100;
constexpr int kPatienceMs = 5000;

/// Counts how many domains were asked for at a time.
class CountingXen final : public toolstack::FakeXenCalls {
 public:
  uint32_t most = 0;
  Result<std::vector<toolstack::DomainInfo>> list_domains(DomId first, uint32_t max) override {
    most = std::max(most, max);
    return FakeXenCalls::list_domains(first, max);
  }
};

TEST(DomainWatch, FindsADeathAmongMoreDomainsThanItLooksAtInOneGo) {
  CountingXen xen;
  auto watch = DomainWatch::create(xen);
  ASSERT_TRUE(watch) << watch.error().text();
  for (uint16_t id = 1; id <= kDomains; ++id) {
    ASSERT_TRUE(xen.create_domain(DomId(id), {}));
    watch->add({DomId(id), id}, 0);
  }
  xen.domains.at(DomId(kDomains - 1)).shut_down = true;
  xen.domains.at(DomId(kDomains - 1)).crashed = true;
  std::optional<VmEvent> event;
  for (pollfd ready{watch->fd(), POLLIN, 0}; !event && ::poll(&ready, 1, kPatienceMs) == 1;)
    event = watch->next();
  ASSERT_TRUE(event) << "nobody noticed";
  EXPECT_EQ(event->vm, (VmId{DomId(kDomains - 1), kDomains - 1}));
  EXPECT_EQ(event->kind, VmEvent::Kind::kCrashed);
  EXPECT_LT(xen.most, kDomains) << "a flow would wait for a look at all of them";
}

}  // namespace
}  // namespace synfluid::spawner::xen
