// The table of static grants against a std::map, and its limits.
#include "backend/static_grants.h"

#include <map>
#include <random>

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
