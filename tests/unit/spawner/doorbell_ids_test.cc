#include "spawner/xen/doorbell_ids.h"

#include <map>
#include <optional>
#include <vector>

#include <gtest/gtest.h>

namespace synfluid::spawner::xen {
namespace {

constexpr uint16_t kHighest = 2000;

/// Counts ports; refuses when told to.
class Ports {
 public:
  PortOpener opener() {
    return {.open = [this](DomId domid) -> Result<EventPort> {
              if (broken) return Error(ErrorCode::kExhausted, "no port left");
              open_for[++last_] = domid;
              return EventPort(last_);
            },
            .close = [this](EventPort port) { open_for.erase(port.value()); }};
  }
  bool broken = false;
  std::map<uint32_t, DomId> open_for;

 private:
  uint32_t last_ = 0;
};

class Ids : public ::testing::Test {
 protected:
  FreshIds fresh_{DomId(kHighest)};
  Ports ports_;
  DoorbellIds ids_{fresh_, ports_.opener(), 4};
};

TEST_F(Ids, AreHandedOutDownwardsEachWithAPortOfItsOwn) {
  const auto first = ids_.take();
  const auto second = ids_.take();
  ASSERT_TRUE(first && second);
  EXPECT_EQ(first->domid(), DomId(kHighest));
  EXPECT_EQ(second->domid(), DomId(kHighest - 1));
  EXPECT_EQ(ports_.open_for.at(second->port().value()), second->domid());
}

TEST_F(Ids, AreOpenedAheadAsFarAsTold) {
  int opened = 0;
  while (ids_.open_ahead()) ++opened;
  EXPECT_EQ(opened, 4);
  EXPECT_EQ(ids_.ready(), 4u);
  const auto taken = ids_.take();
  EXPECT_EQ(ports_.open_for.size(), 4u) << "none was opened on the path";
  EXPECT_TRUE(ids_.open_ahead());
  EXPECT_EQ(ports_.open_for.size(), 5u);
}

TEST_F(Ids, KeepTheirPortWhenTheyComeBack) {
  std::optional<DoorbellId> id(ids_.take().value());
  const EventPort port = id->port();
  id.reset();
  const auto again = ids_.take();
  ASSERT_TRUE(again);
  EXPECT_EQ(again->domid(), DomId(kHighest));
  EXPECT_EQ(again->port(), port);
  EXPECT_EQ(ports_.open_for.size(), 1u);
}

TEST_F(Ids, ThatAreFarUpTheListWaitWhileThereAreUnusedOnes) {
  std::vector<DoorbellId> all;
  for (int i = 0; i < 1000; ++i) all.push_back(ids_.take().value());
  ids_.open_ahead();
  all.erase(all.begin());
  const auto lowest = ids_.take();
  EXPECT_EQ(lowest->domid(), DomId(kHighest - 1000)) << "Xen would walk past 999 domains";
  ids_.open_ahead();
  all.pop_back();
  EXPECT_EQ(ids_.take().value().domid(), DomId(kHighest - 999));
}

TEST_F(Ids, SetAsideAreTriedAgainWhenAllElseIsGone) {
  const DomId busy = ids_.take().value().domid();
  std::move(*ids_.take()).set_aside();
  std::vector<DoorbellId> all;
  for (int i = 1; i < kHighest; ++i) {
    all.push_back(ids_.take().value());
    ASSERT_NE(all.back().domid(), busy);
  }
  EXPECT_EQ(ids_.left(), 1u);
  EXPECT_EQ(ids_.take().value().domid(), busy);
  std::move(*ids_.take()).set_aside();
  EXPECT_EQ(ids_.left(), 1u);
}

TEST_F(Ids, EndWithOneClearError) {
  std::vector<DoorbellId> all;
  for (int i = 0; i < kHighest; ++i) all.push_back(ids_.take().value());
  const auto none = ids_.take();
  ASSERT_FALSE(none);
  EXPECT_EQ(none.error().code(), ErrorCode::kExhausted);
  EXPECT_FALSE(ids_.open_ahead());
}

TEST_F(Ids, AFailingPortLosesNoId) {
  ports_.broken = true;
  EXPECT_FALSE(ids_.take());
  EXPECT_FALSE(ids_.open_ahead());
  ports_.broken = false;
  EXPECT_EQ(ids_.take().value().domid(), DomId(kHighest));
  EXPECT_TRUE(ids_.open_ahead()) << "after an id has come back";
}

TEST_F(Ids, MoveToAnotherWorkerWithAPortThere) {
  Ports others;
  DoorbellIds there(fresh_, others.opener(), 4);
  {
    auto id = ids_.take();
    ASSERT_TRUE(id);
    ASSERT_TRUE(id->move_to(there));
    EXPECT_TRUE(id->is_from(there));
    EXPECT_TRUE(ports_.open_for.empty());
    EXPECT_EQ(others.open_for.at(id->port().value()), DomId(kHighest));
  }
  EXPECT_EQ(ids_.ready(), 0u);
  EXPECT_EQ(there.ready(), 1u);
}

TEST_F(Ids, StayWhereTheyAreWhenTheMoveFails) {
  Ports others;
  others.broken = true;
  DoorbellIds there(fresh_, others.opener(), 4);
  {
    auto id = ids_.take();
    ASSERT_FALSE(id->move_to(there));
    EXPECT_EQ(ports_.open_for.size(), 1u);
  }
  EXPECT_EQ(ids_.ready(), 1u);
}

}  // namespace
}  // namespace synfluid::spawner::xen
