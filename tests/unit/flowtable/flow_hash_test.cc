#include "flowtable/flow_hash.h"

#include <algorithm>
#include <bit>
#include <random>
#include <vector>

#include "base/packet.h"
#include "base/plain_ipv4.h"
#include "tests/unit/flowtable/table_support.h"

namespace synfluid::flowtable {
namespace {

using testing::key_of;
using testing::kSecret;
using testing::make_table;

/// Chi-squared over 256 cells of the hash's bits from `shift` on, of flows as a scanner would make them.
double chi_squared(const FlowHash& hash, int shift) {
  constexpr int kKeys = 1 << 18;
  std::array<double, 256> cells{};
  for (int i = 0; i < kKeys; ++i) cells[hash(key_of(static_cast<uint64_t>(i) * 3 + 1)) >> shift & 255] += 1;
  const double expected = kKeys / 256.0;
  double sum = 0;
  for (const double cell : cells) sum += (cell - expected) * (cell - expected) / expected;
  return sum;
}

TEST(FlowHash, SpreadsConsecutiveFlowsEvenlyInEveryByte) {
  const FlowHash hash(kSecret);
  for (int shift = 0; shift < 64; shift += 8) {
    EXPECT_LT(chi_squared(hash, shift), 360) << "bits from " << shift;  // 255 ± 23; 360 is 4.6 sigma away
    EXPECT_GT(chi_squared(hash, shift), 160) << "bits from " << shift;  // too even is no hash either
  }
}

TEST(FlowHash, FlipsHalfTheBitsForAnyBitOfTheKey) {
  const FlowHash hash(kSecret);
  for (size_t bit = 0; bit < 8 * sizeof(FlowKey); ++bit) {
    int flipped = 0;
    constexpr int kSamples = 64;
    for (uint64_t i = 0; i < kSamples; ++i) {
      auto bytes = std::bit_cast<std::array<uint8_t, sizeof(FlowKey)>>(key_of(i));
      const uint64_t before = hash(std::bit_cast<FlowKey>(bytes));
      bytes[bit / 8] = static_cast<uint8_t>(bytes[bit / 8] ^ (1u << (bit % 8)));
      flipped += std::popcount(before ^ hash(std::bit_cast<FlowKey>(bytes)));
    }
    EXPECT_NEAR(static_cast<double>(flipped) / kSamples, 32, 4) << "bit " << bit;
  }
}

TEST(FlowHash, HasNoCollisionAmongHalfAMillionFlows) {
  const FlowHash hash(kSecret);
  std::vector<uint64_t> seen;
  for (uint64_t i = 0; i < 500'000; ++i) seen.push_back(hash(key_of(i)));
  std::ranges::sort(seen);
  EXPECT_EQ(std::ranges::adjacent_find(seen), seen.end());
}

TEST(FlowHash, IsTheSameOfAnIpv4FrameAndOfItsKey) {
  const FlowHash hash(kSecret);
  std::mt19937_64 random(3);
  std::array<std::byte, 54> frame{};
  const auto put = [&frame](size_t at, uint64_t value) { frame[at] = static_cast<std::byte>(value); };
  put(12, 0x08), put(14, 0x45), put(17, 40), put(23, 6), put(46, 0x50);
  for (int round = 0; round < 10'000; ++round) {
    for (size_t at = 26; at < 38; ++at) put(at, random());
    if (round % 4 == 0) std::copy_n(frame.begin() + 26, 4, frame.begin() + 30);  // both ends one address
    if (round % 8 == 0) std::copy_n(frame.begin() + 34, 2, frame.begin() + 36);  // and one port
    const ParsedPacket packet = parse_packet_by_steps(frame);
    ASSERT_EQ(packet.kind, PacketKind::kTcp);
    ASSERT_TRUE(plain_ipv4::is(frame));
    ASSERT_EQ(hash(plain_ipv4::flow(frame)), hash(packet.flow.key)) << "round " << round;
  }
}

TEST(FlowHash, DependsOnBothHalvesOfTheSecret) {
  const FlowKey key = key_of(1);
  const uint64_t hash = FlowHash(kSecret)(key);
  EXPECT_NE(hash, FlowHash({kSecret[0] ^ 1, kSecret[1]})(key));
  EXPECT_NE(hash, FlowHash({kSecret[0], kSecret[1] ^ 1})(key));
  EXPECT_EQ(hash, FlowHash(kSecret)(key));
}

TEST(FlowHash, TakesItsSecretFromTheKernel) {
  const auto first = random_secret();
  const auto second = random_secret();
  ASSERT_TRUE(first && second);
  EXPECT_NE(*first, *second);
}

/// Flows that have one home, and one filter class, under the secret that is known.
std::vector<FlowKey> aimed_flows(size_t count, uint32_t buckets) {
  const FlowHash known(kSecret);
  std::vector<FlowKey> aimed;
  for (uint64_t i = 0; aimed.size() < count; ++i) {
    const uint64_t hash = known(key_of(i));
    if (((hash >> 32) * buckets) >> 32 == 5 && (hash >> 28 & 15) == 3) aimed.push_back(key_of(i));
  }
  return aimed;
}

// Who knew the secret could aim. With another secret the same flows spread as any others.
TEST(FlowHash, KeysThatCollideUnderOneSecretDoNotUnderAnother) {
  constexpr uint32_t kBuckets = 200;
  const std::vector<FlowKey> aimed = aimed_flows(1000, kBuckets);
  Config config = testing::config_of(kBuckets * kSlots);
  auto broken = make_table(config);
  config.secret = {1, 2};
  auto keyed = make_table(config);
  for (const FlowKey& key : aimed) {
    broken->insert(key, {}, 0);
    keyed->insert(key, {}, 0);
  }
  EXPECT_EQ(broken->size(), kSlots + kMostPassed) << "a home and what may go past it";
  EXPECT_EQ(broken->stats().full, aimed.size() - kSlots - kMostPassed);
  EXPECT_EQ(keyed->size(), aimed.size());
  EXPECT_EQ(keyed->stats().displaced, 0u);
}

TEST(FlowTable, KeepsItsCountsExactWhenABucketHasBeenPassedAsOftenAsItCanCount) {
  constexpr uint32_t kBuckets = 200;
  const std::vector<FlowKey> aimed = aimed_flows(600, kBuckets);
  auto table = make_table(kBuckets * kSlots);
  std::vector<FlowIndex> flows;
  for (const FlowKey& key : aimed) flows.push_back(table->insert(key, {}, 0));
  for (size_t i = 0; i < aimed.size(); ++i) ASSERT_EQ(table->find(aimed[i]), flows[i]);
  for (size_t i = 0; i < aimed.size(); i += 2)
    if (flows[i] != kNoFlow) table->erase(flows[i]);
  for (size_t i = 1; i < aimed.size(); i += 2) ASSERT_EQ(table->find(aimed[i]), flows[i]);
}

}  // namespace
}  // namespace synfluid::flowtable
