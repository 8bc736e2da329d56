// The table of static grants against a std::map, and its limits.
#include "backend/static_grants.h"

#include <map>
#include <random>
#include <set>
#include <vector>

#include <gtest/gtest.h>

#include "tests/unit/backend/fake_control.h"

namespace synfluid::backend {
namespace {

using testing::FakeControl;
using testing::GuestMemory;

uint32_t gref(uint32_t buffer) {
  return GuestMemory::gref_of(buffer);
}

TEST(StaticGrants, AreWhatAMapWouldHave) {
  const unsigned seed = 20'26;
  SCOPED_TRACE(seed);
  std::mt19937 random(seed);
  GuestMemory memory(256);
  // Few places, so that the table is crowded and its gaps are closed often.
  for (int round = 0; round < 40; ++round) {
    FakeControl control(memory, 24);
    StaticGrants grants(control);
    std::map<uint32_t, std::byte*> model;
    for (int step = 0; step < 400; ++step) {
      const auto buffer = static_cast<uint32_t>(random() % 60);
      if (random() % 2 == 0) {
        ASSERT_EQ(grants.has_room(1), control.maps < 8 * 24 && model.size() < 24);
        if (!grants.has_room(1)) continue;
        const bool added = grants.add({gref(buffer), 0, 0});
        ASSERT_EQ(added, !model.contains(gref(buffer)));
        if (added) model[gref(buffer)] = memory.buffer(buffer);
      } else {
        ASSERT_EQ(grants.remove(gref(buffer)), model.erase(gref(buffer)) == 1);
      }
      ASSERT_EQ(grants.empty(), model.empty());
      for (uint32_t i = 0; i < 60; ++i) {
        const auto found = model.find(gref(i));
        ASSERT_EQ(grants.find(gref(i), PageAccess::kWrite), found == model.end() ? nullptr : found->second);
      }
    }
    ASSERT_EQ(control.mapped.size(), model.size());
    ASSERT_EQ(control.misuses, 0);
  }
}

/// Of so many references, in a table of 1,024.
size_t homes(const GrefHash& hash, const std::vector<uint32_t>& references) {
  std::set<uint32_t> homes;
  for (const uint32_t reference : references) homes.insert(hash(reference) % 1024);
  return homes.size();
}

// 512 references thrown at random would have 403 homes.
TEST(GrefHash, SpreadsRunsAndWhatSharesAnEntryUnderAnotherSecret) {
  const unsigned seed = 20'26;
  std::mt19937_64 random(seed);
  for (int round = 0; round < 20; ++round) {
    const GrefHash known({random(), random()});
    const GrefHash secret({random(), random()});
    std::vector<uint32_t> run, alike;
    for (uint32_t reference = 8; run.size() < 512; ++reference) run.push_back(reference);
    for (uint32_t reference = 8; alike.size() < 512; ++reference)
      if (known(reference) % 1024 == 7) alike.push_back(reference);
    EXPECT_EQ(homes(known, alike), 1u);
    EXPECT_GT(homes(secret, alike), 330u) << "seed " << seed << ", round " << round;
    EXPECT_GT(homes(secret, run), 330u) << "seed " << seed << ", round " << round;
  }
}

TEST(GrefHash, IsDrawnAnewEachTime) {
  const GrefHash one = GrefHash::draw();
  const GrefHash other = GrefHash::draw();
  size_t same = 0;
  for (uint32_t reference = 0; reference < 1000; ++reference) same += one(reference) == other(reference);
  EXPECT_LT(same, 10u);
}

TEST(StaticGrants, OfReadOnlyPagesAreNotForWriting) {
  GuestMemory memory(8);
  FakeControl control(memory, 8);
  StaticGrants grants(control);
  EXPECT_FALSE(grants.has_room(9));
  control.read_only.insert(gref(1));
  EXPECT_FALSE(grants.add({gref(1), 0, 0})) << "not granted for writing";
  ASSERT_TRUE(grants.add({gref(1), abi::kGrefReadOnly, 0}));
  ASSERT_TRUE(grants.add({gref(2), 0, 0}));
  EXPECT_EQ(grants.find(gref(1), PageAccess::kRead), memory.buffer(1));
  EXPECT_EQ(grants.find(gref(1), PageAccess::kWrite), nullptr);
  EXPECT_EQ(grants.find(gref(2), PageAccess::kWrite), memory.buffer(2));
}

}  // namespace
}  // namespace synfluid::backend
