#include "spawner/admission.h"

#include <random>
#include <thread>
#include <vector>

#include <gtest/gtest.h>

namespace synfluid::spawner {
namespace {

using enum AdmissionVerdict;

constexpr int64_t kStart = 1'000 * kNsPerSecond;

Address subscriber(uint32_t number) {
  const uint8_t bytes[4] = {10, static_cast<uint8_t>(number >> 16), static_cast<uint8_t>(number >> 8),
                            static_cast<uint8_t>(number)};
  return Address::from_v4(bytes);
}

/// policies::Limits, as far as admission looks.
struct Limits {
  uint32_t max_vms = 10'000;
  std::optional<policies::Rate> spawn_rate = {};
  std::optional<policies::Rate> each_rate = {};
  std::optional<uint32_t> each_max_vms = {};
};

policies::Limits full(const Limits& limits) {
  policies::Limits full;
  full.max_vms = limits.max_vms;
  full.spawn_rate = limits.spawn_rate;
  full.per_subscriber.spawn_rate = limits.each_rate;
  full.per_subscriber.max_vms = limits.each_max_vms;
  return full;
}

Admission::Config config(const Limits& limits) {
  return {.limits = full(limits), .hash_key = std::array<uint64_t, 2>{1, 2}};
}

policies::Rate per_second(uint64_t events) {
  return {.events = events, .per_ns = kNsPerSecond};
}

/// How many of `attempts` are admitted; their tickets are kept in `tickets` when given.
uint32_t admitted(Admission& admission, const Address& who, int64_t now, uint32_t attempts,
                  std::vector<AdmissionTicket>* tickets = nullptr) {
  uint32_t count = 0;
  for (uint32_t i = 0; i < attempts; ++i) {
    Admission::Decision decision = admission.admit(who, now);
    EXPECT_EQ(decision.verdict == kAdmitted, static_cast<bool>(decision.ticket));
    count += decision.verdict == kAdmitted ? 1 : 0;
    if (tickets != nullptr && decision.ticket) tickets->push_back(std::move(decision.ticket));
  }
  return count;
}

TEST(Admission, WithoutLimitsItAdmitsAndCounts) {
  Admission admission(config({}));
  std::vector<AdmissionTicket> tickets;
  EXPECT_EQ(admitted(admission, subscriber(1), kStart, 100, &tickets), 100u);
  EXPECT_EQ(admission.vms(), 100u);
  tickets.clear();
  EXPECT_EQ(admission.vms(), 0u);
}

TEST(Admission, VmsRunShortWhenThreeQuartersAreThereAndNotAll) {
  Admission admission(config({.max_vms = 8}));
  std::vector<AdmissionTicket> tickets;
  admitted(admission, subscriber(1), kStart, 6, &tickets);
  EXPECT_FALSE(admission.is_short(kStart));
  admitted(admission, subscriber(1), kStart, 1, &tickets);
  EXPECT_TRUE(admission.is_short(kStart));
  admitted(admission, subscriber(1), kStart, 1, &tickets);
  EXPECT_FALSE(admission.is_short(kStart)) << "there is none left to be short of";
}

TEST(Admission, VmsRunShortWhenTheSpawnRateDoes) {
  Admission admission(config({.spawn_rate = per_second(100)}));
  admitted(admission, subscriber(1), kStart, 74);
  EXPECT_FALSE(admission.is_short(kStart));
  admitted(admission, subscriber(1), kStart, 2);
  EXPECT_TRUE(admission.is_short(kStart));
  EXPECT_FALSE(admission.is_short(kStart + kNsPerSecond / 10)) << "ten have been forgotten";
}

TEST(Admission, VmsRunShortWhenTheFloodGuardDoes) {
  Admission::Config few = config({});
  few.flood_unanswered = 100;
  few.flood_forgotten_per_s = 10;
  Admission admission(few);
  admitted(admission, subscriber(1), kStart, 76);
  EXPECT_TRUE(admission.is_short(kStart));
  for (int i = 0; i < 10; ++i) admission.connection_followed();
  EXPECT_FALSE(admission.is_short(kStart));
}

TEST(Admission, ATicketIsReleasedExactlyOnceHoweverItTravels) {
  Admission admission(config({}));
  AdmissionTicket first = admission.admit(subscriber(1), kStart).ticket;
  AdmissionTicket second = std::move(first);
  EXPECT_FALSE(first);  // NOLINT(bugprone-use-after-move): that is the question
  first.release();
  EXPECT_EQ(admission.vms(), 1u);
  AdmissionTicket third = admission.admit(subscriber(2), kStart).ticket;
  third = std::move(second);
  EXPECT_EQ(admission.vms(), 1u) << "what was assigned to gives up what it had";
  third.release();
  third.release();
  EXPECT_EQ(admission.vms(), 0u);
  AdmissionTicket().release();
}

TEST(Admission, MaxVmsIsAHardLimitUntilOneIsReleased) {
  Admission admission(config({.max_vms = 3}));
  std::vector<AdmissionTicket> tickets;
  EXPECT_EQ(admitted(admission, subscriber(1), kStart, 10, &tickets), 3u);
  EXPECT_EQ(admission.admit(subscriber(2), kStart).verdict, kMaxVms);
  tickets.pop_back();
  EXPECT_EQ(admission.admit(subscriber(2), kStart).verdict, kAdmitted);
}

TEST(Admission, TheSpawnRateAllowsABurstOfOnePeriodAndThenItsPace) {
  Admission admission(config({.spawn_rate = per_second(100)}));
  EXPECT_EQ(admitted(admission, subscriber(1), kStart, 1000), 100u);
  EXPECT_EQ(admission.admit(subscriber(1), kStart).verdict, kSpawnRate);
  EXPECT_EQ(admitted(admission, subscriber(1), kStart + 10 * kNsPerMs, 10), 1u);
  EXPECT_EQ(admitted(admission, subscriber(1), kStart + 110 * kNsPerMs, 100), 10u);
  EXPECT_EQ(admitted(admission, subscriber(1), kStart + 10 * kNsPerSecond, 1000), 100u);
}

TEST(Admission, OneSubscriberCannotSpendWhatAnotherHas) {
  Admission admission(config({.each_rate = per_second(5)}));
  EXPECT_EQ(admitted(admission, subscriber(1), kStart, 100), 5u);
  EXPECT_EQ(admission.admit(subscriber(1), kStart).verdict, kSubscriberRate);
  EXPECT_EQ(admitted(admission, subscriber(2), kStart, 100), 5u);
}

TEST(Admission, WhatASubscriberIsRefusedCostsTheGatewayNothing) {
  Admission admission(config({.spawn_rate = per_second(100), .each_rate = per_second(5)}));
  EXPECT_EQ(admitted(admission, subscriber(1), kStart, 100'000), 5u);
  uint32_t others = 0;
  for (uint32_t who = 2; who < 200; ++who) others += admitted(admission, subscriber(who), kStart, 1);
  EXPECT_EQ(others, 95u);
}

TEST(Admission, WhatTheGatewayRefusesCostsTheSubscriberNothing) {
  Admission admission(config({.spawn_rate = per_second(10), .each_rate = per_second(5)}));
  EXPECT_EQ(admitted(admission, subscriber(1), kStart, 5), 5u);
  EXPECT_EQ(admitted(admission, subscriber(2), kStart, 5), 5u);
  for (int i = 0; i < 100; ++i) EXPECT_EQ(admission.admit(subscriber(3), kStart).verdict, kSpawnRate);
  EXPECT_EQ(admitted(admission, subscriber(3), kStart + kNsPerSecond, 100), 5u);
}

TEST(Admission, SubscribersAreHeldToTheirNumberOfVmsForAsLongAsTheyRun) {
  Admission admission(config({.each_max_vms = 2}));
  std::vector<AdmissionTicket> tickets;
  EXPECT_EQ(admitted(admission, subscriber(1), kStart, 10, &tickets), 2u);
  const int64_t later = kStart + 1000 * kNsPerSecond;
  EXPECT_EQ(admission.admit(subscriber(1), later).verdict, kSubscriberMaxVms);
  EXPECT_EQ(admission.vms(), 2u) << "a refusal keeps no place";
  tickets.pop_back();
  EXPECT_EQ(admission.admit(subscriber(1), later).verdict, kAdmitted);
}

TEST(Admission, TheFloodGuardTripsOnSynsThatNoConnectionFollowsAndForgetsThemInTime) {
  Admission::Config guarded = config({});
  guarded.flood_unanswered = 50;
  guarded.flood_forgotten_per_s = 10;
  Admission admission(guarded);
  EXPECT_EQ(admitted(admission, subscriber(1), kStart, 1000), 50u);
  EXPECT_EQ(admission.admit(subscriber(2), kStart).verdict, kFlood);
  EXPECT_EQ(admitted(admission, subscriber(2), kStart + kNsPerSecond, 100), 10u);
}

TEST(Admission, ConnectionsThatFollowKeepTheFloodGuardDown) {
  Admission::Config guarded = config({});
  guarded.flood_unanswered = 50;
  guarded.flood_forgotten_per_s = 10;
  Admission admission(guarded);
  for (int i = 0; i < 10'000; ++i) {
    ASSERT_EQ(admission.admit(subscriber(1), kStart).verdict, kAdmitted);
    admission.connection_followed();
  }
}

TEST(Admission, RefusalsForOtherReasonsDoNotRaiseTheFloodGuard) {
  Admission::Config guarded = config({.max_vms = 1});
  guarded.flood_unanswered = 50;
  Admission admission(guarded);
  const AdmissionTicket only = admission.admit(subscriber(1), kStart).ticket;
  for (int i = 0; i < 1000; ++i) ASSERT_EQ(admission.admit(subscriber(1), kStart).verdict, kMaxVms);
}

TEST(Admission, ATableFullOfBusySubscribersRefusesNewOnesAndServesItsOwn) {
  Admission::Config small = config({.each_max_vms = 2});
  small.subscriber_cells = 16;
  Admission admission(small);
  std::vector<AdmissionTicket> tickets;
  std::vector<uint32_t> known;
  uint32_t refused = 0;
  for (uint32_t who = 0; who < 1000; ++who) {
    Admission::Decision decision = admission.admit(subscriber(who), kStart);
    if (decision.verdict == kAdmitted) known.push_back(who);
    if (decision.verdict == kSubscriberTable) ++refused;
    tickets.push_back(std::move(decision.ticket));
  }
  EXPECT_EQ(known.size() + refused, 1000u);
  EXPECT_LE(known.size(), 16u);
  EXPECT_GE(known.size(), 8u);
  for (const uint32_t who : known) EXPECT_EQ(admission.admit(subscriber(who), kStart).verdict, kAdmitted);
}

TEST(Admission, ACellIsReplacedOnlyWhenItsSubscriberHasNothingToAnswerFor) {
  Admission::Config small = config({.each_rate = per_second(2)});
  small.subscriber_cells = 16;
  Admission admission(small);
  // Every cell is somebody's who has spent a token; none may be forgotten before half a second has passed.
  uint32_t first_round = 0;
  for (uint32_t who = 0; who < 1000; ++who) first_round += admitted(admission, subscriber(who), kStart, 1);
  EXPECT_LE(first_round, 16u);
  uint32_t later = 0;
  for (uint32_t who = 1000; who < 2000; ++who)
    later += admitted(admission, subscriber(who), kStart + 500 * kNsPerMs, 1);
  EXPECT_GE(later, 8u) << "stale cells are taken over";
  EXPECT_LE(later, 16u);
}

TEST(Admission, MillionsOfSpoofedSourcesNeitherGrowItNorForgiveAnybody) {
  Admission::Config flooded = config({.each_rate = per_second(3)});
  flooded.subscriber_cells = 1024;
  flooded.flood_unanswered = 100'000'000;
  Admission admission(flooded);
  EXPECT_EQ(admitted(admission, subscriber(0), kStart, 3), 3u);
  for (uint32_t who = 1; who < 1'000'000; ++who) admission.admit(subscriber(who), kStart);
  EXPECT_EQ(admission.admit(subscriber(0), kStart).verdict, kSubscriberRate);
}

TEST(Admission, NewLimitsHoldForRunningVms) {
  Admission admission(config({.max_vms = 10}));
  std::vector<AdmissionTicket> tickets;
  EXPECT_EQ(admitted(admission, subscriber(1), kStart, 10, &tickets), 10u);
  admission.set_limits(full({.max_vms = 5}));
  EXPECT_EQ(admission.admit(subscriber(1), kStart).verdict, kMaxVms);
  tickets.resize(4);
  EXPECT_EQ(admitted(admission, subscriber(1), kStart, 10, &tickets), 1u);
}

TEST(Admission, EveryRefusalHasADropReason) {
  EXPECT_EQ(to_drop_reason(kFlood), DropReason::kFloodGuard);
  EXPECT_EQ(to_drop_reason(kSpawnRate), DropReason::kAdmissionRate);
  EXPECT_EQ(to_drop_reason(kSubscriberRate), DropReason::kAdmissionRate);
  EXPECT_EQ(to_drop_reason(kMaxVms), DropReason::kAdmissionQuota);
  EXPECT_EQ(to_drop_reason(kSubscriberMaxVms), DropReason::kAdmissionQuota);
  EXPECT_EQ(to_drop_reason(kSubscriberTable), DropReason::kAdmissionQuota);
}

/// Against the obvious model: a list of all tickets and a token bucket per subscriber.
TEST(Admission, AgreesWithAModelOverRandomUse) {
  const uint64_t seed = std::random_device{}();
  RecordProperty("seed", std::to_string(seed));
  SCOPED_TRACE(::testing::Message() << "seed " << seed);
  std::mt19937_64 random(seed);
  constexpr uint32_t kMaxVmsEach = 4;
  constexpr uint32_t kMaxVmsAll = 60;
  constexpr int64_t kInterval = kNsPerSecond / 5;
  Admission admission(
      config({.max_vms = kMaxVmsAll, .each_rate = per_second(5), .each_max_vms = kMaxVmsEach}));
  struct Model {
    std::vector<AdmissionTicket> tickets;
    int64_t tat = 0;
  };
  std::vector<Model> subscribers(40);
  uint32_t vms = 0;
  int64_t now = kStart;
  for (int i = 0; i < 200'000; ++i) {
    now += static_cast<int64_t>(random() % (5 * kNsPerMs));
    const auto who = static_cast<uint32_t>(random() % subscribers.size());
    Model& model = subscribers[who];
    if (random() % 2 == 0 && !model.tickets.empty()) {
      model.tickets.pop_back();
      --vms;
      continue;
    }
    AdmissionVerdict expected = kAdmitted;
    const int64_t base = std::max(model.tat, now);
    if (vms >= kMaxVmsAll) {
      expected = kMaxVms;
    } else if (model.tickets.size() >= kMaxVmsEach) {
      expected = kSubscriberMaxVms;
    } else if (base - now > kNsPerSecond - kInterval) {
      expected = kSubscriberRate;
    }
    Admission::Decision decision = admission.admit(subscriber(who), now);
    admission.connection_followed();
    ASSERT_EQ(decision.verdict, expected) << "step " << i;
    if (!decision.ticket) continue;
    model.tat = base + kInterval;
    model.tickets.push_back(std::move(decision.ticket));
    ++vms;
    ASSERT_EQ(admission.vms(), vms);
  }
}

}  // namespace
}  // namespace synfluid::spawner
