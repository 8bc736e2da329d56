// Timers: exact to a tick, nothing lost, bounded work.
#include <algorithm>
#include <vector>

#include "tests/unit/flowtable/table_support.h"

namespace synfluid::flowtable {
namespace {

using testing::config_of;
using testing::key_of;
using testing::kTickNs;
using testing::make_table;

std::vector<FlowIndex> expire(FlowTable& table, int64_t now_ns, size_t room = 64) {
  std::vector<FlowIndex> out(room);
  out.resize(table.expire(now_ns, out));
  return out;
}

constexpr std::array<int64_t, kStates> kIdleTicks{5, 100, 50, 3, 2, 1000};

TEST(Ageing, ReportsAFlowAtItsStatesIdleTimeAndNotATickBefore) {
  for (size_t s = 0; s < kStates; ++s) {
    auto table = make_table(100);
    const FlowIndex flow = table->insert(key_of(1), {.state = static_cast<FlowState>(s)}, 0);
    for (int64_t tick = 0; tick < kIdleTicks[s]; ++tick)
      ASSERT_TRUE(expire(*table, tick * kTickNs + kTickNs / 2).empty()) << "state " << s << " tick " << tick;
    ASSERT_TRUE(expire(*table, kIdleTicks[s] * kTickNs - 1).empty());
    EXPECT_EQ(expire(*table, kIdleTicks[s] * kTickNs), std::vector{flow});
  }
}

TEST(Ageing, IsNeverEarlyForAFlowTouchedInTheMiddleOfATick) {
  auto table = make_table(100);
  const FlowIndex flow = table->insert(key_of(1), {.state = FlowState::kRefused}, kTickNs / 3);
  EXPECT_TRUE(expire(*table, kTickNs / 3 + 3 * kTickNs).empty());
  EXPECT_EQ(expire(*table, 4 * kTickNs), std::vector{flow});
}

TEST(Ageing, ATouchStartsTheIdleTimeAnew) {
  auto table = make_table(100);
  const FlowIndex flow = table->insert(key_of(1), {.state = FlowState::kBypass}, 0);
  for (int64_t tick = 1; tick <= 500; ++tick) {
    table->touch(flow, tick * kTickNs);
    ASSERT_TRUE(expire(*table, tick * kTickNs).empty()) << tick;
  }
  EXPECT_LE(table->stats().rearmed, 11u) << "a touched flow's timer is looked at once per idle time";
  EXPECT_TRUE(expire(*table, 550 * kTickNs - 1).empty());
  EXPECT_EQ(expire(*table, 550 * kTickNs), std::vector{flow});
}

/// The tags of a plain flow are compared, and no more.
void touch_plain(FlowTable& table, const FlowKey& key) {
  Search search;
  search.at = table.seek_carelessly(KeyWords::of(key));
  EXPECT_EQ(table.narrow(std::span(&search, 1), 1).plain, 1u);
}

TEST(Ageing, APlainFlowIsNeverEarlyAndAQuarterLateAtMost) {
  constexpr int64_t kIdle = kIdleTicks[static_cast<size_t>(FlowState::kActive)];
  for (int64_t touched = 0; touched < kIdle; ++touched) {
    auto table = make_table(100);
    const FlowIndex flow =
        table->insert(key_of(1), {.state = FlowState::kActive, .flags = flow_flag::kPlain}, 0);
    int64_t tick = 0;
    for (; tick <= touched; ++tick) {
      ASSERT_TRUE(expire(*table, tick * kTickNs).empty());
      if (tick > 0 && (tick == touched || tick % 7 == 0)) touch_plain(*table, key_of(1));
    }
    std::vector<FlowIndex> expired;
    for (; expired.empty() && tick < 10 * kIdle; ++tick) expired = expire(*table, tick * kTickNs);
    EXPECT_EQ(expired, std::vector{flow});
    EXPECT_GE(tick - 1, touched + kIdle);
    EXPECT_LE(tick - 1, touched + kIdle + kIdle / 4 + 1) << "touched at " << touched;
    EXPECT_LE(table->stats().rearmed, 12u);
  }
}

TEST(Ageing, APlainFlowIsNotKeptByTheFlowWhoseTagIsLikeItsOwn) {
  constexpr int64_t kIdle = kIdleTicks[static_cast<size_t>(FlowState::kActive)];
  auto table = make_table(240);
  const auto keys = testing::twins(*table, 2, testing::Alike::kShortTags);
  std::array<FlowIndex, 2> flows;
  for (size_t i = 0; i < 2; ++i)
    flows[i] = table->insert(keys[i], {.state = FlowState::kActive, .flags = flow_flag::kPlain}, 0);
  for (int64_t tick = 0; tick < 3 * kIdle; ++tick) {
    const auto expired = expire(*table, tick * kTickNs);
    for (const FlowIndex flow : expired) {
      ASSERT_EQ(flow, flows[0]) << "the other is in use";
      EXPECT_EQ(tick, kIdle);
      table->erase(flow);
    }
    Search search;
    const Narrowed narrowed = testing::look_up_carelessly(*table, search, keys[1]);
    if (narrowed.known == 0) continue;
    ASSERT_EQ(table->finish(search, KeyWords::of(keys[1])), flows[1]);
    table->touch(flows[1], tick * kTickNs);
  }
  EXPECT_EQ(table->size(), 1u);
}

TEST(Ageing, APlainFlowThatIsNotTouchedHasItsStatesIdleTime) {
  for (size_t s = 0; s < kStates; ++s) {
    auto table = make_table(100);
    const FlowIndex flow =
        table->insert(key_of(1), {.state = static_cast<FlowState>(s), .flags = flow_flag::kPlain}, 0);
    for (int64_t tick = 0; tick < kIdleTicks[s]; ++tick) ASSERT_TRUE(expire(*table, tick * kTickNs).empty());
    EXPECT_EQ(expire(*table, kIdleTicks[s] * kTickNs), std::vector{flow});
  }
}

TEST(Ageing, APlainFlowThatEntersAShorterStateExpiresSooner) {
  auto table = make_table(100);
  const FlowIndex flow =
      table->insert(key_of(1), {.state = FlowState::kHandoff, .flags = flow_flag::kPlain}, 0);
  touch_plain(*table, key_of(1));
  table->set_state(flow, FlowState::kRefused, 10 * kTickNs);
  EXPECT_TRUE(expire(*table, 13 * kTickNs - 1).empty());
  EXPECT_TRUE(expire(*table, 13 * kTickNs).empty()) << "it was touched since the timer last looked";
  std::vector<FlowIndex> expired;
  for (int64_t tick = 14; expired.empty() && tick < 20; ++tick) expired = expire(*table, tick * kTickNs);
  EXPECT_EQ(expired, std::vector{flow});
}

TEST(Ageing, AStateWithAShorterTimeExpiresSooner) {
  auto table = make_table(100);
  const FlowIndex flow = table->insert(key_of(1), {.state = FlowState::kHandoff}, 0);
  table->set_state(flow, FlowState::kClosing, 10 * kTickNs);
  EXPECT_TRUE(expire(*table, 12 * kTickNs - 1).empty());
  EXPECT_EQ(expire(*table, 12 * kTickNs), std::vector{flow});
}

TEST(Ageing, AStateWithALongerTimeExpiresLater) {
  auto table = make_table(100);
  const FlowIndex flow = table->insert(key_of(1), {.state = FlowState::kPending}, 0);
  table->set_state(flow, FlowState::kActive, 4 * kTickNs);
  EXPECT_TRUE(expire(*table, 104 * kTickNs - 1).empty());
  EXPECT_EQ(expire(*table, 104 * kTickNs), std::vector{flow});
}

TEST(Ageing, ASlotUsedAgainHasItsNewFlowsTimeOnly) {
  auto table = make_table(24);
  const FlowIndex first = table->insert(key_of(1), {.state = FlowState::kHandoff}, 0);
  table->erase(first);
  const FlowIndex second = table->insert(key_of(2), {.state = FlowState::kRefused}, kTickNs);
  ASSERT_EQ(first, second);
  EXPECT_EQ(expire(*table, 4 * kTickNs), std::vector{second});
  table->erase(second);
  const FlowIndex third = table->insert(key_of(3), {.state = FlowState::kHandoff}, 4 * kTickNs);
  EXPECT_TRUE(expire(*table, 1004 * kTickNs - 1).empty());
  EXPECT_EQ(expire(*table, 1004 * kTickNs), std::vector{third});
}

TEST(Ageing, AnErasedFlowIsNotReported) {
  auto table = make_table(100);
  table->erase(table->insert(key_of(1), {.state = FlowState::kClosing}, 0));
  EXPECT_TRUE(expire(*table, 1000 * kTickNs).empty());
}

TEST(Ageing, AReportedFlowThatIsKeptComesAgainAfterItsIdleTime) {
  auto table = make_table(100);
  const FlowIndex flow = table->insert(key_of(1), {.state = FlowState::kPending}, 0);
  EXPECT_EQ(expire(*table, 5 * kTickNs), std::vector{flow});
  EXPECT_TRUE(expire(*table, 10 * kTickNs - 1).empty());
  EXPECT_EQ(expire(*table, 10 * kTickNs), std::vector{flow});
}

TEST(Ageing, WhatFindsNoRoomComesWithTheNextCalls) {
  auto table = make_table(2400);
  std::vector<FlowIndex> all;
  for (uint64_t i = 0; i < 1000; ++i)
    all.push_back(table->insert(key_of(i), {.state = FlowState::kClosing}, 0));
  std::vector<FlowIndex> reported;
  for (int calls = 0; calls < 400 && reported.size() < all.size(); ++calls) {
    for (const FlowIndex flow : expire(*table, 2 * kTickNs, 7)) {
      reported.push_back(flow);
      table->erase(flow);
    }
  }
  std::ranges::sort(all);
  std::ranges::sort(reported);
  EXPECT_EQ(reported, all);
  EXPECT_TRUE(expire(*table, 5000 * kTickNs).empty());
}

TEST(Ageing, SurvivesAnyJumpOfTheClock) {
  auto table = make_table(100);
  int64_t now = 0;
  for (const int64_t jump :
       {1, 63, 64, 65, 1000, 1023, 1024, 16383, 16384, 32767, 32768, 65535, 65536, 70'000'000}) {
    const FlowIndex flow = table->insert(key_of(1), {.state = FlowState::kClosing}, now);
    now += (jump + 2) * kTickNs;
    EXPECT_EQ(expire(*table, now), std::vector{flow}) << "jump of " << jump;
    table->erase(flow);
  }
}

TEST(Ageing, AClockThatStepsBackDoesNoHarm) {
  auto table = make_table(100);
  expire(*table, 1000 * kTickNs);
  const FlowIndex flow = table->insert(key_of(1), {.state = FlowState::kClosing}, 500 * kTickNs);
  EXPECT_TRUE(expire(*table, 600 * kTickNs).empty());
  EXPECT_EQ(expire(*table, 1001 * kTickNs), std::vector{flow});
}

TEST(Ageing, ALiveFlowOutlivesAnOwnerThatDidNotAskForLong) {
  auto table = make_table(100);
  const FlowIndex flow = table->insert(key_of(1), {.state = FlowState::kBypass}, 0);
  const int64_t late = 10'000;
  table->touch(flow, late * kTickNs);
  EXPECT_TRUE(expire(*table, late * kTickNs).empty());
  EXPECT_EQ(expire(*table, (late + 50) * kTickNs), std::vector{flow});
}

}  // namespace
}  // namespace synfluid::flowtable
