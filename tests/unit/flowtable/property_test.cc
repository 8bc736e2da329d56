// Millions of random operations on the table and on std::unordered_map: they must agree at every step.
#include <algorithm>
#include <map>
#include <unordered_map>
#include <vector>

#include "flowtable/tag_match.h"
#include "tests/unit/flowtable/table_support.h"

namespace synfluid::flowtable {
namespace {

using testing::config_of;
using testing::key_of;
using testing::kTickNs;

struct ModelFlow {
  FlowIndex index;
  uint32_t target;
  FlowState state;
  int64_t seen_tick;
  bool is_plain;
};

constexpr std::array<int64_t, kStates> kIdleTicks{5, 100, 50, 3, 2, 1000};

/// Drives both, in whole ticks, and compares.
class Pair {
 public:
  Pair(const Config& config, uint64_t seed, uint64_t key_space)
      : table_(testing::make_table(config)), random_(seed), key_space_(key_space) {}

  void run(size_t operations) {
    for (size_t done = 0; done < operations && !::testing::Test::HasFailure(); ++done) {
      const uint64_t dice = random_() % 1024;
      if (dice < 416)
        insert(some_key());
      else if (dice < 448)
        insert_burst();
      else if (dice < 576)
        erase(some_key());
      else if (dice < 768)
        touch(some_key());
      else if (dice < 832)
        set_state(some_key());
      else if (dice < 1023)
        look_up();
      else
        pass_time();
    }
    check_all();
  }

  uint64_t refused() const { return refused_; }
  uint64_t expired() const { return expired_; }
  uint64_t plain() const { return plain_; }

 private:
  uint64_t some_key() { return random_() % key_space_; }
  FlowState some_state() { return static_cast<FlowState>(random_() % kStates); }
  int64_t now_ns() const { return tick_ * kTickNs; }
  static uint8_t flags_of(bool plain) { return plain ? flow_flag::kPlain : uint8_t{0}; }

  void insert(uint64_t number) {
    if (model_.contains(number)) return;
    const uint32_t target = static_cast<uint32_t>(random_());
    const FlowState state = some_state();
    const bool plain = random_() % 2 == 0;
    const FlowIndex flow = table_->insert(
        key_of(number), {.target = target, .state = state, .flags = flags_of(plain)}, now_ns());
    if (flow == kNoFlow) {
      ++refused_;
      return;
    }
    ASSERT_LT(flow, table_->capacity());
    ASSERT_TRUE(owners_.emplace(flow, number).second) << "slot " << flow << " given to two flows";
    model_[number] = {flow, target, state, tick_, plain};
  }

  /// A burst of flows that are not there, no two alike.
  void insert_burst() {
    std::vector<uint64_t> numbers;
    std::vector<FlowKey> keys;
    for (size_t i = random_() % (kBurst + 9); i > 0; --i) {
      const uint64_t number = some_key();
      if (model_.contains(number) || std::ranges::find(numbers, number) != numbers.end()) continue;
      numbers.push_back(number);
      keys.push_back(key_of(number));
    }
    const uint32_t target = static_cast<uint32_t>(random_());
    const FlowState state = some_state();
    const bool plain = random_() % 2 == 0;
    std::vector<FlowIndex> flows(keys.size());
    const size_t inserted =
        table_->insert(keys, {.target = target, .state = state, .flags = flags_of(plain)}, now_ns(), flows);
    ASSERT_EQ(inserted, keys.size() - static_cast<size_t>(std::ranges::count(flows, kNoFlow)));
    refused_ += keys.size() - inserted;
    for (size_t i = 0; i < keys.size(); ++i) {
      if (flows[i] == kNoFlow) continue;
      ASSERT_TRUE(owners_.emplace(flows[i], numbers[i]).second) << "slot " << flows[i] << " given twice";
      model_[numbers[i]] = {flows[i], target, state, tick_, plain};
    }
  }

  void erase(uint64_t number) {
    const auto at = model_.find(number);
    if (at == model_.end()) return;
    table_->erase(at->second.index);
    owners_.erase(at->second.index);
    model_.erase(at);
  }

  void touch(uint64_t number) {
    const auto at = model_.find(number);
    if (at == model_.end()) return;
    table_->touch(at->second.index, now_ns());
    at->second.seen_tick = tick_;
  }

  void set_state(uint64_t number) {
    const auto at = model_.find(number);
    if (at == model_.end()) return;
    at->second.state = some_state();
    at->second.seen_tick = tick_;
    table_->set_state(at->second.index, at->second.state, now_ns());
  }

  void look_up() {
    std::array<uint64_t, kBurst> numbers;
    std::array<FlowKey, kBurst> keys;
    std::array<FlowIndex, kBurst> found;
    for (size_t i = 0; i < kBurst; ++i) keys[i] = key_of(numbers[i] = some_key());
    const size_t count = table_->lookup(keys, found);
    ASSERT_EQ(count, kBurst - static_cast<size_t>(std::ranges::count(found, kNoFlow)));
    for (size_t i = 0; i < kBurst; ++i) {
      const auto at = model_.find(numbers[i]);
      ASSERT_EQ(found[i], at == model_.end() ? kNoFlow : at->second.index) << "key " << numbers[i];
    }
    look_up_in_steps(numbers, keys, found);
  }

  /// As the worker does: for some of the keys it does not mind which plain flow they are of, or none.
  void look_up_in_steps(std::span<const uint64_t> numbers, std::span<const FlowKey> keys,
                        std::span<const FlowIndex> expected) {
    std::array<Search, kBurst> searches;
    const size_t count = random_() % (kBurst + 1);
    const SearchMask careless = random_();
    for (size_t i = 0; i < count; ++i) {
      const KeyWords words = KeyWords::of(keys[i]);
      searches[i].at = i % 2 == 0 ? table_->seek(words) : table_->seek_carelessly(words);
    }
    Narrowed narrowed = table_->narrow(std::span(searches).first(count), careless);
    ASSERT_EQ(narrowed.known & narrowed.plain, 0u);
    ASSERT_EQ(narrowed.behind & (narrowed.known | narrowed.plain), 0u);
    table_->settle(std::span(searches).first(count), narrowed, careless);
    ASSERT_EQ(narrowed.plain & ~careless, 0u);
    if (count < kBurst) {
      ASSERT_EQ((narrowed.plain | narrowed.known) >> count, 0u) << "of searches that there are not";
    }
    for (size_t i = 0; i < count; ++i) {
      const auto at = model_.find(numbers[i]);
      if ((narrowed.plain >> i & 1) != 0) {
        ++plain_;
        if (at == model_.end()) continue;
        ASSERT_TRUE(at->second.is_plain) << "key " << numbers[i];
        at->second.seen_tick = tick_;
        continue;
      }
      const bool is_known = (narrowed.known >> i & 1) != 0;
      const FlowIndex found = is_known ? table_->finish(searches[i], KeyWords::of(keys[i])) : kNoFlow;
      ASSERT_EQ(found, expected[i]);
    }
  }

  /// What the table reports must be what the model says is due, each once; now and then it is kept. A plain
  /// flow may be late: at times it is taken for another, which only the table knows.
  void pass_time() {
    tick_ += static_cast<int64_t>(random_() % 100 == 0 ? random_() % 3000 : random_() % 4);
    std::map<uint64_t, int> due;
    for (const auto& [number, flow] : model_)
      if (tick_ - flow.seen_tick >= kIdleTicks[static_cast<size_t>(flow.state)]) due[number] = 1;
    take_all_expired(due);
    for (const auto& [number, left] : due) {
      if (left != 0 && model_[number].is_plain) continue;
      ASSERT_EQ(left, 0) << "flow " << number << " was not reported";
    }
  }

  void take_all_expired(std::map<uint64_t, int>& due) {
    std::array<FlowIndex, 16> out;
    // A call looks at as many buckets as `out` has room, and all of them may have lost the flows that were
    // due.
    const size_t enough = table_->capacity() / kSlots / out.size() + 2;
    for (size_t empty = 0; empty < enough;) {
      const size_t count = table_->expire(now_ns(), out);
      const uint64_t rearmed = table_->stats().rearmed;
      empty = count == 0 && rearmed == rearmed_ ? empty + 1 : 0;
      rearmed_ = rearmed;
      for (const FlowIndex flow : std::span(out).first(count)) take_expired(flow, due);
    }
  }

  void take_expired(FlowIndex flow, std::map<uint64_t, int>& due) {
    ASSERT_TRUE(owners_.contains(flow)) << "a slot that holds no flow";
    const uint64_t number = owners_[flow];
    ASSERT_EQ(due[number], 1) << "flow " << number << " reported early, or twice";
    due[number] = 0;
    ++expired_;
    if (random_() % 8 == 0)
      model_[number].seen_tick = tick_;
    else
      erase(number);
  }

  void check_all() {
    ASSERT_EQ(table_->size(), model_.size());
    size_t seen = 0;
    table_->for_each(0, table_->capacity(), [&](FlowIndex flow) {
      ASSERT_TRUE(owners_.contains(flow));
      const ModelFlow& expected = model_[owners_[flow]];
      EXPECT_EQ(table_->key(flow), key_of(owners_[flow]));
      EXPECT_EQ(table_->value(flow).target, expected.target);
      EXPECT_EQ(table_->value(flow).state, expected.state);
      EXPECT_EQ(table_->find(table_->key(flow)), flow);
      ++seen;
    });
    EXPECT_EQ(seen, model_.size());
    const TableStats stats = table_->stats();
    EXPECT_EQ(stats.inserted - stats.erased, stats.size);
    EXPECT_EQ(stats.full, refused_);
    EXPECT_EQ(stats.expired, expired_);
  }

  std::unique_ptr<FlowTable> table_;
  std::mt19937_64 random_;
  const uint64_t key_space_;
  std::unordered_map<uint64_t, ModelFlow> model_;
  std::unordered_map<FlowIndex, uint64_t> owners_;
  int64_t tick_ = 0;
  uint64_t refused_ = 0;
  uint64_t expired_ = 0;
  uint64_t rearmed_ = 0;
  uint64_t plain_ = 0;
};

/// As many as asked for by the environment's SYNFLUID_TEST_OPERATIONS, else `usual`, which fits in every run.
/// Each key that is looked up counts as one.
size_t operations(size_t usual) {
  const char* wanted = std::getenv("SYNFLUID_TEST_OPERATIONS");
  return wanted != nullptr ? std::strtoull(wanted, nullptr, 0) : usual;
}

class TableProperty : public ::testing::TestWithParam<TagCompare> {};

std::string name_of(const ::testing::TestParamInfo<TagCompare>& one) {
  if (one.param == TagCompare::kBest) return "Best";
  return one.param == TagCompare::kSse2 ? "Sse2" : "Portable";
}

INSTANTIATE_TEST_SUITE_P(TagCompare, TableProperty,
                         ::testing::Values(TagCompare::kBest, TagCompare::kSse2, TagCompare::kPortable),
                         name_of);

TEST_P(TableProperty, AgreesWithAMapOnARoomyTable) {
  Config config = config_of(7200);
  config.tag_compare = GetParam();
  Pair pair(config, testing::test_seed(), 6000);
  pair.run(operations(200'000));
  EXPECT_EQ(pair.refused(), 0u);
  EXPECT_GT(pair.expired(), 1000u);
  EXPECT_GT(pair.plain(), 1000u);
}

TEST_P(TableProperty, AgreesWithAMapWhileTheTableIsFullMostOfTheTime) {
  Config config = config_of(480);
  config.tag_compare = GetParam();
  Pair pair(config, testing::test_seed(), 1500);
  pair.run(operations(200'000));
  EXPECT_GT(pair.refused(), 0u);
}

TEST_P(TableProperty, AgreesWithAMapWhenTheClockStartsLateAndTheTableIsOneBucket) {
  Config config = config_of(1);
  config.tag_compare = GetParam();
  Pair pair(config, testing::test_seed(), 40);
  pair.run(operations(100'000));
}

TEST(TagMatch, SimdAndPortableGiveTheSameSlots) {
  std::mt19937_64 random(testing::test_seed());
  TagLine line{};
  ShortTags block{};
  for (int round = 0; round < 100'000; ++round) {
    for (uint32_t s = 0; s < kSlots; ++s) {
      line.tags[s] = static_cast<uint16_t>(random() % 3 == 0 ? random() : random() % 4);
      block.tags[s] = static_cast<uint8_t>(line.tags[s]);
    }
    line.passed = block.marks = random();
    const uint16_t wanted =
        static_cast<uint16_t>(random() % 2 == 0 ? line.tags[random() % kSlots] : random());
    const uint8_t wanted_short = static_cast<uint8_t>(wanted);
    uint32_t expected = 0;
    uint32_t expected_short = 0;
    for (uint32_t s = 0; s < kSlots; ++s) {
      expected |= line.tags[s] == wanted ? 1u << s : 0;
      expected_short |= block.tags[s] == wanted_short ? 1u << s : 0;
    }
    ASSERT_EQ(BaselineMatch::slots(line, wanted), expected);
    ASSERT_EQ(BaselineMatch::slots(block, wanted_short), expected_short);
#if defined(__SSE2__)
    if (cpu_has_avx512()) {
      ASSERT_EQ(Avx512Match::slots(line, wanted), expected);
      ASSERT_EQ(Avx512Match::slots(block, wanted_short), expected_short);
    }
#endif
    ASSERT_EQ(PortableMatch::slots(line, wanted), expected);
    ASSERT_EQ(PortableMatch::slots(block, wanted_short), expected_short);
  }
}

}  // namespace
}  // namespace synfluid::flowtable
