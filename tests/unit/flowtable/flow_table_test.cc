#include "flowtable/flow_table.h"

#include <algorithm>
#include <set>
#include <vector>

#include "tests/unit/flowtable/table_support.h"

namespace synfluid::flowtable {
namespace {

using testing::Alike;
using testing::config_of;
using testing::key_of;
using testing::kTickNs;
using testing::look_up_carelessly;
using testing::make_table;
using testing::twins;

std::vector<FlowIndex> look_up(const FlowTable& table, const std::vector<FlowKey>& keys) {
  std::vector<FlowIndex> out(keys.size());
  table.lookup(keys, out);
  return out;
}

TEST(FlowTable, FindsWhatWasInsertedWithItsValueAndKey) {
  auto table = make_table(1000);
  const FlowIndex flow = table->insert(
      key_of(7), {.target = 42, .state = FlowState::kActive, .flags = flow_flag::kOpenedByHigh}, 0);
  ASSERT_NE(flow, kNoFlow);
  EXPECT_EQ(table->find(key_of(7)), flow);
  EXPECT_EQ(table->value(flow).target, 42u);
  EXPECT_EQ(table->value(flow).state, FlowState::kActive);
  EXPECT_EQ(table->value(flow).flags, flow_flag::kOpenedByHigh);
  EXPECT_EQ(table->key(flow), key_of(7));
  EXPECT_EQ(table->find(key_of(8)), kNoFlow);
}

TEST(FlowTable, LooksUpAnyNumberOfKeysInTheirOrder) {
  auto table = make_table(5000);
  std::vector<FlowKey> keys;
  for (uint64_t i = 0; i < 2 * kBurst + 5; ++i) keys.push_back(key_of(i));
  std::vector<FlowIndex> expected(keys.size(), kNoFlow);
  for (size_t i = 0; i < keys.size(); i += 2) expected[i] = table->insert(keys[i], {}, 0);
  for (size_t count = 0; count <= keys.size(); ++count) {
    const std::vector<FlowKey> some(keys.begin(), keys.begin() + static_cast<ptrdiff_t>(count));
    EXPECT_TRUE(std::ranges::equal(look_up(*table, some), std::span(expected).first(count)))
        << count << " keys";
  }
}

TEST(FlowTable, ForgetsAnErasedFlowAndReusesItsSlot) {
  auto table = make_table(24);
  const FlowIndex flow = table->insert(key_of(1), {}, 0);
  table->erase(flow);
  EXPECT_EQ(table->find(key_of(1)), kNoFlow);
  EXPECT_FALSE(table->contains(flow));
  EXPECT_EQ(table->size(), 0u);
  EXPECT_EQ(table->insert(key_of(2), {}, 0), flow);
  EXPECT_EQ(table->find(key_of(1)), kNoFlow);
}

// ::ffff:10.0.0.1 is IPv4; 2001:db8::ffff:10.0.0.1 shares its lower half, which is all that an IPv4 look-up
// compares.
TEST(FlowTable, KeepsIpv4ApartFromIpv6WithTheSameLowerHalf) {
  auto table = make_table(240);
  FlowKey v4 = key_of(1);
  FlowKey v6 = v4;
  v6.low.bytes[0] = 0x20;
  ASSERT_TRUE(v4.low.is_v4());
  const FlowIndex first = table->insert(v4, {}, 0);
  EXPECT_EQ(table->find(v6), kNoFlow);
  const FlowIndex second = table->insert(v6, {}, 0);
  EXPECT_EQ(table->find(v4), first);
  EXPECT_EQ(table->find(v6), second);
  EXPECT_EQ(table->key(first), v4);
  EXPECT_EQ(table->key(second), v6);
}

TEST(FlowTable, TellsEveryByteOfTheKeyApart) {
  auto table = make_table(24);
  for (const uint64_t number : {1, 3}) {  // IPv4, IPv6
    const FlowKey key = key_of(number);
    ASSERT_NE(table->insert(key, {}, 0), kNoFlow);
    for (size_t byte = 0; byte < sizeof key; ++byte) {
      auto bytes = std::bit_cast<std::array<uint8_t, sizeof key>>(key);
      bytes[byte] ^= 0x01;
      EXPECT_EQ(table->find(std::bit_cast<FlowKey>(bytes)), kNoFlow) << "byte " << byte;
    }
  }
}

TEST(FlowTable, FillsEverySlotOfASmallTableThenRefusesAndCounts) {
  auto table = make_table(100);
  ASSERT_EQ(table->capacity(), 120u);
  std::set<FlowIndex> used;
  for (uint64_t i = 0; i < 120; ++i) used.insert(table->insert(key_of(i), {}, 0));
  EXPECT_EQ(used.size(), 120u);
  EXPECT_EQ(*used.rbegin(), 119u);
  EXPECT_EQ(table->insert(key_of(500), {}, 0), kNoFlow);
  EXPECT_EQ(table->insert(key_of(501), {}, 0), kNoFlow);
  EXPECT_EQ(table->stats().full, 2u);
  EXPECT_EQ(table->size(), 120u);
  for (uint64_t i = 0; i < 120; ++i) EXPECT_NE(table->find(key_of(i)), kNoFlow) << i;
  EXPECT_EQ(table->find(key_of(500)), kNoFlow);
}

TEST(FlowTable, FillsToNinetyPercentWithoutARefusal) {
  auto table = make_table(240'000);
  const uint64_t wanted = uint64_t{table->capacity()} * 90 / 100;
  for (uint64_t i = 0; i < wanted; ++i) table->insert(key_of(i), {}, 0);
  EXPECT_EQ(table->size(), wanted);
  EXPECT_EQ(table->stats().full, 0u);
}

TEST(FlowTable, TakesAtMost64BytesAFlowAtNinetyPercentLoad) {
  auto table = make_table(1'000'000);
  const double flows = 0.9 * table->capacity();
  EXPECT_LE(static_cast<double>(table->memory_bytes()) / flows, 64.0);
}

TEST(FlowTable, GoesOnFindingFlowsBehindOneThatWasErased) {
  auto table = make_table(240);
  std::vector<FlowIndex> flows;
  for (uint64_t i = 0; i < 240; ++i) flows.push_back(table->insert(key_of(i), {}, 0));
  EXPECT_GT(table->stats().displaced, 0u);
  for (size_t i = 0; i < 240; i += 2) table->erase(flows[i]);
  for (size_t i = 0; i < 240; ++i) EXPECT_EQ(table->find(key_of(i)), i % 2 == 0 ? kNoFlow : flows[i]) << i;
}

TEST(FlowTable, ALookUpEndsAtHomeWhenThoseWhoWentPastAreGone) {
  auto table = make_table(240);
  std::vector<FlowIndex> flows;
  for (uint64_t i = 0; i < 240; ++i) flows.push_back(table->insert(key_of(i), {}, 0));
  EXPECT_GT(table->stats().displaced, 0u);
  table->erase(flows);
  for (uint64_t i = 0; i < 240; ++i) {
    Search search;
    search.at = table->seek(KeyWords::of(key_of(i)));
    EXPECT_EQ(table->narrow(std::span(&search, 1)).behind, 0u) << i;
    search.at = table->seek_carelessly(KeyWords::of(key_of(i)));
    EXPECT_EQ(table->narrow(std::span(&search, 1), 1).plain, 1u) << i;
  }
}

TEST(FlowTable, InsertsABurstAsItWouldInsertOneByOne) {
  auto one_by_one = make_table(480);
  auto at_once = make_table(480);
  std::vector<FlowKey> keys;
  std::vector<FlowIndex> expected;
  for (uint64_t i = 0; i < 500; ++i) {
    keys.push_back(key_of(i));
    expected.push_back(one_by_one->insert(keys.back(), {.target = 7, .state = FlowState::kBypass}, 0));
  }
  std::vector<FlowIndex> flows(keys.size());
  EXPECT_EQ(at_once->insert(keys, {.target = 7, .state = FlowState::kBypass}, 0, flows), 480u);
  EXPECT_EQ(flows, expected);
  EXPECT_EQ(look_up(*at_once, keys), expected);
  EXPECT_EQ(at_once->stats().full, 20u);
  EXPECT_EQ(at_once->stats().displaced, one_by_one->stats().displaced);
  for (size_t i = 0; i < keys.size(); ++i) {
    if (flows[i] == kNoFlow) continue;
    EXPECT_EQ(at_once->key(flows[i]), keys[i]);
    EXPECT_EQ(at_once->value(flows[i]).target, 7u);
  }
}

TEST(FlowTable, NamesAFlowToEvictWhereANewOneWouldLie) {
  auto table = make_table(24);
  const FlowIndex pending = table->insert(key_of(0), {.state = FlowState::kPending}, 0);
  const FlowIndex older = table->insert(key_of(1), {.state = FlowState::kBypass}, 1 * kTickNs);
  const FlowIndex newer = table->insert(key_of(2), {.state = FlowState::kBypass}, 2 * kTickNs);
  EXPECT_EQ(table->eviction_candidate(key_of(99), FlowState::kBypass), older);
  table->touch(older, 3 * kTickNs);
  EXPECT_EQ(table->eviction_candidate(key_of(99), FlowState::kBypass), newer);
  EXPECT_EQ(table->eviction_candidate(key_of(99), FlowState::kPending), pending);
  EXPECT_EQ(table->eviction_candidate(key_of(99), FlowState::kActive), kNoFlow);
}

TEST(FlowTable, EvictsAPlainFlowThatIsInUseLast) {
  auto table = make_table(24);
  const FlowValue plain{.state = FlowState::kBypass, .flags = flow_flag::kPlain};
  const FlowIndex used = table->insert(key_of(1), plain, 0);
  const FlowIndex unused = table->insert(key_of(2), plain, 5 * kTickNs);
  EXPECT_EQ(table->eviction_candidate(key_of(3), FlowState::kBypass), used);
  Search search;
  search.at = table->seek(KeyWords::of(key_of(1)));
  EXPECT_EQ(table->narrow(std::span(&search, 1), 1).plain, 1u);
  EXPECT_EQ(table->eviction_candidate(key_of(3), FlowState::kBypass), unused);
}

TEST(FlowTable, NeverTakesAFlowThatIsNotPlainForAPlainOne) {
  constexpr FlowValue kPlainFlow{.flags = flow_flag::kPlain};
  // Beside its plain twin, before or behind it; and in another bucket, because home is full.
  for (const Alike alike : {Alike::kTags, Alike::kShortTags})
    for (const size_t between : {0u, 5u, 24u, 48u})
      for (const bool plain_first : {true, false}) {
        auto table = make_table(24 * 8);
        const auto keys = twins(*table, 2, alike);
        ASSERT_NE(table->insert(keys[0], plain_first ? kPlainFlow : FlowValue{}, 0), kNoFlow);
        const Probe of_twin = table->seek(KeyWords::of(keys[0]));
        size_t filled = 0;
        for (uint64_t number = 1; filled < between; ++number) {
          const Probe at = table->seek(KeyWords::of(key_of(number)));
          if (at.home != of_twin.home || at.short_tag() == of_twin.short_tag()) continue;
          ASSERT_NE(table->insert(key_of(number), kPlainFlow, 0), kNoFlow);
          ++filled;
        }
        ASSERT_NE(table->insert(keys[1], plain_first ? FlowValue{} : kPlainFlow, 0), kNoFlow);
        const FlowKey& other = keys[plain_first ? 1 : 0];
        Search search;
        const Narrowed narrowed = look_up_carelessly(*table, search, other);
        EXPECT_EQ(narrowed.plain, 0u) << between << " flows between, the plain one first: " << plain_first;
        ASSERT_EQ(narrowed.known, 1u);
        EXPECT_EQ(table->finish(search, KeyWords::of(other)), table->find(other));
      }
}

TEST(FlowTable, EndsACarelessLookUpAtTheTags) {
  for (const Alike alike : {Alike::kTags, Alike::kShortTags}) {
    auto table = make_table(24 * 8);
    const auto keys = twins(*table, 2, alike);
    Search search;
    EXPECT_EQ(look_up_carelessly(*table, search, keys[0]).plain, 1u) << "of no flow";
    table->insert(keys[0], {.flags = flow_flag::kPlain}, 0);
    EXPECT_EQ(look_up_carelessly(*table, search, keys[0]).plain, 1u);
    EXPECT_EQ(look_up_carelessly(*table, search, keys[1]).plain, 1u)
        << "of no flow, but it might be the twin";
    EXPECT_EQ(table->find(keys[1]), kNoFlow);
  }
}

TEST(FlowTable, ComparesKeysToSeeWhichOfTwoPlainTwinsIsInUse) {
  auto table = make_table(24 * 8);
  const auto keys = twins(*table, 2, Alike::kShortTags);
  for (const FlowKey& key : keys) ASSERT_NE(table->insert(key, {.flags = flow_flag::kPlain}, 0), kNoFlow);
  for (const FlowKey& key : keys) {
    Search search;
    ASSERT_EQ(look_up_carelessly(*table, search, key).known, 1u);
    const FlowIndex flow = table->finish(search, KeyWords::of(key));
    ASSERT_EQ(flow, table->find(key));
    table->touch(flow, 0);
  }
  for (const FlowKey& key : keys) {
    Search search;
    EXPECT_EQ(look_up_carelessly(*table, search, key).plain, 1u) << "both are in use";
  }
}

TEST(FlowTable, AFlowThatIsGoneIsNotAskedForAnyMore) {
  auto table = make_table(24 * 8);
  const auto keys = twins(*table, 2, Alike::kShortTags);
  const FlowIndex other = table->insert(keys[0], {}, 0);
  Search search;
  EXPECT_EQ(look_up_carelessly(*table, search, keys[1]).known, 1u);
  table->erase(other);
  EXPECT_EQ(look_up_carelessly(*table, search, keys[1]).plain, 1u);
}

TEST(FlowTable, ErasesSeveralAsItWouldOneByOne) {
  auto table = make_table(480);
  std::vector<FlowIndex> flows;
  for (uint64_t i = 0; i < 480; ++i) flows.push_back(table->insert(key_of(i), {}, 0));
  EXPECT_GT(table->stats().displaced, 0u);
  table->erase(std::span(flows).subspan(100, 300));
  EXPECT_EQ(table->size(), 180u);
  for (size_t i = 0; i < flows.size(); ++i)
    EXPECT_EQ(table->find(key_of(i)), i >= 100 && i < 400 ? kNoFlow : flows[i]) << i;
}

TEST(FlowTable, PlainFlowsMayComeInTheMidstOfALookUp) {
  constexpr uint64_t kFlows = 1'300;
  auto table = make_table(24 * 64);
  for (uint64_t i = 0; i < kFlows; ++i) ASSERT_NE(table->insert(key_of(i), {}, 0), kNoFlow);
  size_t behind = 0;
  for (uint64_t i = 0; i < kFlows; ++i) {
    Search search;
    search.at = table->seek(KeyWords::of(key_of(i)));
    Narrowed narrowed = table->narrow(std::span(&search, 1), 1);
    if (narrowed.behind == 0) continue;
    ++behind;
    const uint64_t other = 10'000 + i;
    ASSERT_NE(table->insert(key_of(other), {.flags = flow_flag::kPlain}, 0), kNoFlow);
    table->settle(std::span(&search, 1), narrowed, 1);
    ASSERT_EQ(narrowed.known, 1u) << "flow " << i;
    EXPECT_EQ(table->finish(search, KeyWords::of(key_of(i))), table->find(key_of(i)));
  }
  EXPECT_GT(behind, 0u);
}

TEST(FlowTable, AnEvictionMakesRoomInAFullTable) {
  auto table = make_table(24'000);
  uint64_t i = 0;
  while (table->insert(key_of(i), {.state = FlowState::kBypass}, 0) != kNoFlow) ++i;
  const FlowIndex victim = table->eviction_candidate(key_of(i), FlowState::kBypass);
  ASSERT_NE(victim, kNoFlow);
  table->erase(victim);
  EXPECT_EQ(table->insert(key_of(i), {}, 0), victim);
}

TEST(FlowTable, ShowsEveryFlowOnceInPortions) {
  auto table = make_table(2400);
  std::set<FlowIndex> expected;
  for (uint64_t i = 0; i < 700; ++i) expected.insert(table->insert(key_of(i), {}, 0));
  std::set<FlowIndex> seen;
  size_t shown = 0;
  for (FlowIndex cursor = 0; cursor < table->capacity();) {
    size_t portion = 0;
    cursor = table->for_each(cursor, 10, [&](FlowIndex flow) {
      seen.insert(flow);
      ++portion;
    });
    EXPECT_LE(portion, 10u);
    shown += portion;
  }
  EXPECT_EQ(seen, expected);
  EXPECT_EQ(shown, expected.size());
}

TEST(FlowTable, RefusesAConfigThatCannotWork) {
  const auto fails_with = [](const Config& config, std::string_view part) {
    const auto table = FlowTable::create(config, 0);
    ASSERT_FALSE(table);
    EXPECT_EQ(table.error().code(), ErrorCode::kInvalidArgument);
    EXPECT_NE(table.error().text().find(part), std::string::npos) << table.error().text();
  };
  fails_with(config_of(0), "a flow table of 0 flows");
  fails_with(config_of(0xffffffff), "a flow table of 4294967295 flows");
  Config config = config_of(100);
  config.tick_ns = 0;
  fails_with(config, "a tick of 0 ns");
  config = config_of(100);
  config.idle_ns[2] = 0;
  fails_with(config, "an idle time of 0 ns for bypass flows");
  config = config_of(100);
  config.idle_ns[4] = kMaxIdleTicks * kTickNs + 1;
  fails_with(config, "for closing flows: must be from 1 to 16383 ticks");
}

TEST(FlowTable, SaysWhenThereIsNoMemory) {
  const auto table = FlowTable::create(config_of(0x80000000), 0);
  if (table) GTEST_SKIP() << "the machine has 115 GB to give";
  EXPECT_EQ(table.error().code(), ErrorCode::kNoMemory);
}

}  // namespace
}  // namespace synfluid::flowtable
