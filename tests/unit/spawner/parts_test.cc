// The small parts: ring, wake event, pool size, log limiter.
#include <memory>

#include <gtest/gtest.h>
#include <poll.h>

#include "spawner/log_limiter.h"
#include "spawner/pool_size.h"
#include "spawner/process/domain_ids.h"
#include "spawner/spsc_ring.h"
#include "spawner/wake_event.h"

namespace synfluid::spawner {
namespace {

TEST(SpscRing, KeepsOrderAndRefusesWhenFullWithoutTakingTheItem) {
  SpscRing<std::unique_ptr<int>> ring(3);
  EXPECT_EQ(ring.capacity(), 4u);
  for (int i = 0; i < 4; ++i) EXPECT_TRUE(ring.push(std::make_unique<int>(i)));
  auto more = std::make_unique<int>(99);
  EXPECT_FALSE(ring.push(std::move(more)));
  ASSERT_TRUE(more) << "still the caller's";
  EXPECT_EQ(ring.free_slots(), 0u);
  for (int i = 0; i < 4; ++i) EXPECT_EQ(**ring.pop(), i);
  EXPECT_FALSE(ring.pop());
  EXPECT_TRUE(ring.empty());
}

TEST(SpscRing, GoesRoundManyTimes) {
  SpscRing<uint32_t> ring(8);
  uint32_t put = 0;
  uint32_t got = 0;
  for (int turn = 0; turn < 1000; ++turn) {
    for (int i = 0; i < turn % 9; ++i)
      if (ring.push(uint32_t{put})) ++put;
    while (const auto item = ring.pop()) EXPECT_EQ(*item, got++);
  }
  EXPECT_EQ(got, put);
  EXPECT_GT(put, 3000u);
}

TEST(SpscRing, APoppedItemIsGoneFromTheRing) {
  SpscRing<std::shared_ptr<int>> ring(4);
  auto item = std::make_shared<int>(1);
  EXPECT_TRUE(ring.push(std::shared_ptr<int>(item)));
  ring.pop();
  EXPECT_EQ(item.use_count(), 1);
}

bool readable(int fd) {
  pollfd ready{.fd = fd, .events = POLLIN, .revents = 0};
  return ::poll(&ready, 1, 0) == 1;
}

TEST(WakeEvent, IsReadableFromASignalToTheNextAcknowledge) {
  const auto wake = std::move(*WakeEvent::create());
  EXPECT_FALSE(readable(wake->fd()));
  wake->signal();
  wake->signal();
  EXPECT_TRUE(readable(wake->fd()));
  wake->acknowledge();
  EXPECT_FALSE(readable(wake->fd()));
  wake->signal();
  EXPECT_TRUE(readable(wake->fd()));
}

TEST(PoolSize, StaysAtItsMinimumWithoutDemand) {
  PoolSize size({.min = 4, .max = 64}, 0);
  EXPECT_EQ(size.target(0), 4u);
  EXPECT_EQ(size.target(1000 * kNsPerSecond), 4u);
  EXPECT_TRUE(size.at_minimum());
}

TEST(PoolSize, RisesAtOnceWithDemandUpToItsMaximum) {
  PoolSize size({.min = 4, .max = 64}, 0);
  for (int i = 0; i < 10; ++i) size.asked(kNsPerMs);
  EXPECT_EQ(size.target(kNsPerMs), 10u);
  for (int i = 0; i < 1000; ++i) size.asked(kNsPerMs);
  EXPECT_EQ(size.target(kNsPerMs), 64u);
}

TEST(PoolSize, SinksByAQuarterASecondAndStopsAtItsMinimum) {
  PoolSize size({.min = 1, .max = 64}, 0);
  for (int i = 0; i < 64; ++i) size.asked(0);
  EXPECT_EQ(size.target(kNsPerSecond), 64u) << "the second that just ended was busy";
  EXPECT_EQ(size.target(2 * kNsPerSecond), 48u);
  EXPECT_EQ(size.target(3 * kNsPerSecond), 36u);
  EXPECT_EQ(size.target(100 * kNsPerSecond), 1u);
}

TEST(PoolSize, APoolOfNoneStaysEmpty) {
  PoolSize size({.min = 0, .max = 0}, 0);
  for (int i = 0; i < 100; ++i) size.asked(0);
  EXPECT_EQ(size.target(0), 0u);
}

TEST(LogLimiter, LetsAFewThroughThenOneASecondAndTellsWhatItSwallowed) {
  LogLimiter limiter;
  const int64_t start = 100 * kNsPerSecond;
  int logged = 0;
  for (int i = 0; i < 100; ++i) logged += limiter.admit(start) ? 1 : 0;
  EXPECT_EQ(logged, 5);
  EXPECT_EQ(limiter.admit(start + kNsPerSecond), " (95 such lines left out)");
  EXPECT_FALSE(limiter.admit(start + kNsPerSecond));
  EXPECT_EQ(limiter.admit(start + 2 * kNsPerSecond), " (1 such lines left out)");
}

TEST(DomainIds, GoDownwardsAndComeBackOnlyAfterTheOthers) {
  DomainIds ids;
  EXPECT_EQ(ids.take(), DomId(32751));
  EXPECT_EQ(ids.take(), DomId(32750));
  ids.give_back(DomId(32751));
  EXPECT_EQ(ids.take(), DomId(32749));
}

TEST(DomainIds, EveryIdIsGivenOnceAndThenNoneIsLeft) {
  DomainIds ids;
  std::vector<bool> seen(DomainIds::kHighest + 1);
  for (uint32_t i = 0; i < DomainIds::kHighest; ++i) {
    const auto id = ids.take();
    ASSERT_TRUE(id);
    ASSERT_FALSE(seen[id->value()]);
    seen[id->value()] = true;
  }
  EXPECT_FALSE(ids.take());
  ids.give_back(DomId(17));
  EXPECT_EQ(ids.take(), DomId(17));
}

}  // namespace
}  // namespace synfluid::spawner
